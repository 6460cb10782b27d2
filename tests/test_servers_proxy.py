"""The TCP proxy of the fault tests: it cuts, freezes, delays, refuses, and otherwise changes nothing."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from tests.servers import Proxy
from tests.servers.net import free_ports
from tests.slowness import slowness


@pytest.fixture
async def echo() -> AsyncIterator[str]:
    """A server that sends back what it gets; its URL."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(1000):
            writer.write(chunk)
        writer.write(b"bye")
        writer.close()

    port = free_ports(["echo"])["echo"]
    listener = await asyncio.start_server(handle, "127.0.0.1", port)
    yield f"tcp://user:word@127.0.0.1:{port}/path"
    listener.close()


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def dial(proxy: Proxy) -> Streams:
    return await asyncio.open_connection("127.0.0.1", proxy.port)


async def ask(streams: Streams, text: bytes, timeout: float = 5.0) -> bytes:
    reader, writer = streams
    writer.write(text)
    return await asyncio.wait_for(reader.readexactly(len(text)), timeout)


async def test_the_proxy_forwards_both_ways_and_half_closes(echo: str) -> None:
    async with Proxy(echo) as proxy:
        assert proxy.url == f"tcp://user:word@127.0.0.1:{proxy.port}/path"
        reader, writer = await dial(proxy)
        assert await ask((reader, writer), b"x" * 300_000) == b"x" * 300_000
        assert (proxy.connections, proxy.accepted) == (1, 1)
        writer.write_eof()
        assert await reader.read() == b"bye"
        writer.close()


@pytest.mark.parametrize("reset", [True, False])
async def test_the_proxy_cuts(echo: str, reset: bool) -> None:
    async with Proxy(echo) as proxy:
        streams = await dial(proxy)
        await ask(streams, b"one")
        proxy.cut(reset=reset)
        if reset:
            with pytest.raises(ConnectionResetError):
                await streams[0].read()
        else:
            assert await streams[0].read() == b""
        streams[1].close()
        other = await dial(proxy)
        assert await ask(other, b"two") == b"two"
        other[1].close()


async def test_the_proxy_freezes_and_thaws(echo: str) -> None:
    async with Proxy(echo) as proxy:
        streams = await dial(proxy)
        await ask(streams, b"one")
        proxy.freeze()
        with pytest.raises(TimeoutError):
            await ask(streams, b"two", timeout=0.1)
        late = await dial(proxy)  # accepted, as by a host whose network swallows what follows
        proxy.thaw()
        assert await asyncio.wait_for(streams[0].readexactly(3), 60) == b"two"
        assert await ask(late, b"three") == b"three"
        proxy.freeze()
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            await late[0].read()
        for each in (streams, late):
            each[1].close()


async def test_the_proxy_delays_without_slowing_down(echo: str) -> None:
    async with Proxy(echo, delay=0.3) as proxy:
        streams = await dial(proxy)
        began = time.monotonic()
        for _ in range(20):
            streams[1].write(b"1234")
            await streams[1].drain()
            await asyncio.sleep(0.01)
        await streams[0].readexactly(80)
        took = time.monotonic() - began
        assert 0.6 <= took < 6.0  # there and back once, not once for each write
        proxy.delay = 0.0
        began = time.monotonic()
        await ask(streams, b"fast")
        assert time.monotonic() - began < 0.6 * slowness()
        streams[1].close()


async def test_the_proxy_refuses_and_accepts_again(echo: str) -> None:
    async with Proxy(echo) as proxy:
        streams = await dial(proxy)
        await ask(streams, b"one")
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await dial(proxy)
        assert await ask(streams, b"two") == b"two"
        await proxy.accept()
        other = await dial(proxy)
        assert await ask(other, b"three") == b"three"
        for each in (streams, other):
            each[1].close()


async def test_behind_the_proxy_nobody_is_at_home() -> None:
    port = free_ports(["nobody"])["nobody"]
    async with Proxy(f"tcp://127.0.0.1:{port}") as proxy:
        reader, writer = await dial(proxy)
        assert await reader.read() == b""
        writer.close()
    with pytest.raises(ValueError, match="needs a host and a port"):
        Proxy("127.0.0.1")
