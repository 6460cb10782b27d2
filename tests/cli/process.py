"""Real processes of the command line: their log is read line by line, so that nothing has to be waited for blindly."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Process:
    """`msgbus ARGUMENTS...` with `--json-logs`, in the repository's folder unless told otherwise."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []

    async def until(self, message: str, **extra: object) -> dict[str, Any]:
        """The next line of the log whose message begins so, with these extra fields."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            try:
                entry: dict[str, Any] = json.loads(line)
            except ValueError as error:
                raise AssertionError(f"no JSON in the log: {line!r}") from error
            self.lines.append(entry)
            if entry["message"].startswith(message) and extra.items() <= entry.items():
                return entry
        raise AssertionError(f"ended without {message!r}: {self.lines}")

    async def end(self, number: int | None = signal.SIGTERM) -> int:
        """Send a signal and read the rest of the log; the exit code."""
        if number is not None:
            self.process.send_signal(number)
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.lines.append(json.loads(line))
        return await self.process.wait()

    def messages(self) -> list[str]:
        """Everything it has logged."""
        return [line["message"] for line in self.lines]


@asynccontextmanager
async def running(
    *arguments: str, cwd: Path = ROOT, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Process]:
    """A process that is gone at the end of the block, whatever happens."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "msgbus.cli",
        *arguments,
        "--json-logs",
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        stderr=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.DEVNULL,
    )
    try:
        yield Process(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        if process.stderr is not None:
            await process.stderr.read()


async def msgbus(
    *arguments: str, environment: Mapping[str, str] | None = None, given: bytes = b""
) -> tuple[int, str, str]:
    """A command that ends by itself: exit code, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "msgbus.cli",
        *arguments,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(given)
    return process.returncode or 0, out.decode(), err.decode()
