"""`AwsClient.close` ends, and with it every call, wherever on its way it is. All peers are sockets that say nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.slowness import slowness

from msgbus.brokers.aws import AwsClient, AwsSettings
from msgbus.errors import Unavailable

_NEVER = 3600.0  # seconds of each timeout: only a close can end it

pytestmark = pytest.mark.parametrize("fast", [True, False], ids=["fast", "cold"])


class Silent:
    """Takes connections and says nothing. `met`: one has come, and `bytes` of it."""

    def __init__(self) -> None:
        self.met = asyncio.Event()
        self.url = ""
        self.writers: list[asyncio.StreamWriter] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.met.set()
        self.writers.append(writer)
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass
        writer.close()


@asynccontextmanager
async def silent(scheme: str = "http") -> AsyncIterator[Silent]:
    peer = Silent()
    server = await asyncio.start_server(peer, "127.0.0.1", 0)
    async with server:
        peer.url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield peer
        for writer in peer.writers:
            writer.close()


def client(url: str, *, fast: bool) -> AwsClient:
    return AwsClient(AwsSettings(endpoint=url, fast=fast, verify=False, timeout=_NEVER, connect_timeout=_NEVER))


def send(aws: AwsClient) -> Awaitable[Any]:
    return aws.call("sqs", "SendMessage", {"QueueUrl": "http://q/1/q", "MessageBody": "x"})


async def both_end(aws: AwsClient, reached: Callable[[], Awaitable[object]], work: Awaitable[Any]) -> None:
    """The call as well as the close, once the call is where it should be."""
    call = asyncio.ensure_future(work)
    async with asyncio.timeout(20 * slowness()):
        await reached()
        await aws.close()
        with pytest.raises(Unavailable, match="closed"):
            await call
        await aws.close()
        with pytest.raises(Unavailable, match="closed"):
            await send(aws)


async def test_while_a_server_does_not_answer(*, fast: bool) -> None:
    async with silent() as peer:
        aws = client(peer.url, fast=fast)
        await both_end(aws, peer.met.wait, send(aws))


async def test_in_a_tls_handshake(*, fast: bool) -> None:
    async with silent("https") as peer:
        aws = client(peer.url, fast=fast)
        await both_end(aws, peer.met.wait, send(aws))


async def test_while_connecting(monkeypatch: pytest.MonkeyPatch, *, fast: bool) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        where = full.getsockname()
        with contextlib.ExitStack() as stack:
            for _ in range(3):  # whoever comes after these is neither taken nor turned away
                other = stack.enter_context(socket.socket())
                other.setblocking(False)
                other.connect_ex(where)
            loop = asyncio.get_running_loop()
            asked = asyncio.Event()
            monkeypatch.setattr(loop, "create_connection", _told(loop.create_connection, asked), raising=False)
            aws = client(f"http://127.0.0.1:{where[1]}", fast=fast)
            await both_end(aws, lambda: _soon(asked), send(aws))


def _told(create: Callable[..., Awaitable[Any]], asked: asyncio.Event) -> Callable[..., Awaitable[Any]]:
    async def create_connection(*args: Any, **options: Any) -> Any:
        asked.set()
        return await create(*args, **options)

    return create_connection


async def _soon(asked: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(asked.wait(), 0.5)


async def test_while_keys_are_awaited_from_a_container(monkeypatch: pytest.MonkeyPatch, *, fast: bool) -> None:
    _no_keys(monkeypatch)
    async with silent() as peer:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{peer.url}/keys")
        aws = client("http://127.0.0.1:1", fast=fast)
        await both_end(aws, peer.met.wait, aws.open("sqs"))


def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
