"""A program in Node beside the tests, with a client from npm: driven line by line."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.servers.errors import UnavailableError
from tests.servers.fixtures import give_up
from tests.servers.install import BASE, Need, ensure
from tests.servers.packages import NODE, Npm, node

PACKAGES = {
    "amqplib": (Npm("amqplib", "2.3.1"),),
    "stompit": (Npm("stompit", "1.0.0"),),
    "stompjs": (Npm("@stomp/stompjs", "7.5.0"),),
    "sqs": (Npm("@aws-sdk/client-sqs", "3.1175.0"), Npm("sqs-consumer", "15.0.3"), Npm("sqs-producer", "8.0.4")),
}
NEEDS: list[Need] = [NODE, *(package for packages in PACKAGES.values() for package in packages)]
_MAIN = Path(__file__).with_name("main.js")


class Peer:
    """`await peer.run("send", queue="orders", messages=[...])`; see main.js."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def run(self, verb: str, **about: Any) -> Any:
        """What it answers. Raises AssertionError with its stack where it can't."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"verb": verb, **about}).encode() + b"\n")
        return await self.answer()

    async def answer(self) -> Any:
        """The next line of it."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "the program has ended"
        told = json.loads(line)
        assert "error" not in told, told["error"]
        return told.get("answer")


@asynccontextmanager
async def running(client: str, url: str) -> AsyncIterator[Peer]:
    """Connected, for the length of the block. Skips the test where npm is not to be had."""
    try:
        await asyncio.to_thread(ensure, [NODE, *PACKAGES[client]])
    except UnavailableError as error:
        give_up(error)
    process = await asyncio.create_subprocess_exec(
        *(node(), str(_MAIN), client, url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 24,
        env={**os.environ, "NODE_PATH": str(BASE / "node_modules"), "NODE_NO_WARNINGS": "1"},
    )
    peer = Peer(process)
    try:
        assert await peer.answer() == "ready"
        yield peer
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
