"""The connection pool against a server that misbehaves."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

import pytest
import trustme
from tests.aws.fakes import POST, FaultyServer, HandClock, Peer, Script, always, answer, serve

from msgbus.brokers.aws.failures import (
    AnswerTimeoutError,
    BadResponseError,
    ConnectError,
    ConnectionClosedError,
    PoolBusyError,
    PoolClosedError,
    ResponseTooLargeError,
)
from msgbus.brokers.aws.http import HttpClient
from msgbus.brokers.aws.pool import Pool
from msgbus.brokers.aws.response import Response
from msgbus.brokers.aws.settings import AwsSettings

SECONDS = 30.0


@contextlib.asynccontextmanager
async def pool_for(
    script: Script, clock: HandClock | None = None, **options: float
) -> AsyncIterator[tuple[Pool, FaultyServer]]:
    async with serve(script) as server:
        pool = Pool("127.0.0.1", server.port, None, AwsSettings(**options), clock or HandClock())  # type: ignore[arg-type]
        try:
            yield pool, server
        finally:
            await pool.close()


def ask(pool: Pool) -> "asyncio.Task[Response]":
    return asyncio.create_task(pool.request(POST, SECONDS))


class Gate:
    """A script that announces each request and answers it when told."""

    def __init__(self) -> None:
        self.arrived: asyncio.Queue[tuple[Peer, bytes]] = asyncio.Queue()
        self.busy = 0
        self.most = 0

    async def __call__(self, peer: Peer) -> None:
        while True:
            request = await peer.read()
            self.busy += 1
            self.most = max(self.most, self.busy)
            await self.arrived.put((peer, request.body))

    async def let_through(self, body: bytes = b"{}") -> bytes:
        """Answer the next request; its body."""
        peer, asked = await self.arrived.get()
        self.busy -= 1
        await peer.send(answer(body))
        return asked


async def test_a_connection_is_used_again() -> None:
    async with pool_for(always(answer(b"a"), answer(b"b"))) as (pool, server):
        assert (await ask(pool)).body == b"a"
        assert (await ask(pool)).body == b"b"
        assert server.connections == 1


@pytest.mark.parametrize("how", ["header", "http/1.0", "until end"])
async def test_a_connection_that_the_server_ends_is_not(how: str) -> None:
    data = {
        "header": answer(connection="close"),
        "http/1.0": b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        "until end": b"HTTP/1.1 200 OK\r\n\r\n{}",
    }[how]

    async def script(peer: Peer) -> None:
        await peer.read()
        await peer.send(data)
        if how == "until end":
            peer.close()
        await peer.gone()

    async with pool_for(script) as (pool, server):
        for number in (1, 2):
            assert (await ask(pool)).body == b"{}"
            assert server.connections == number


async def test_a_stale_connection_is_replaced_once() -> None:
    """The server closes on the second request: without a word, as when it was idle for too long."""

    async def script(peer: Peer) -> None:
        await peer.read()
        await peer.send(answer(b"%d" % peer.number))
        await peer.read()

    async with pool_for(script) as (pool, server):
        assert [(await ask(pool)).body for _ in range(3)] == [b"1", b"2", b"3"]
        assert server.connections == 3


async def test_a_new_connection_that_is_closed_is_an_error() -> None:
    async def script(peer: Peer) -> None:
        await peer.read()

    async with pool_for(script) as (pool, server):
        with pytest.raises(ConnectionClosedError) as caught:
            await ask(pool)
        assert not caught.value.started
        assert server.connections == 1


async def test_the_replacement_is_not_replaced_again() -> None:
    async def script(peer: Peer) -> None:
        await peer.read()
        if peer.number == 1:
            await peer.send(answer())
            await peer.read()

    async with pool_for(script) as (pool, server):
        await ask(pool)
        with pytest.raises(ConnectionClosedError):
            await ask(pool)
        assert server.connections == 2


@pytest.mark.parametrize(
    "half",
    [b"H", answer(b"abcdef")[:-1], b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc"],
    ids=["a byte", "length", "chunked"],
)
async def test_a_half_answer_on_a_used_connection_is_an_error_not_a_second_try(half: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.read()
        await peer.send(answer())
        await peer.read()
        await peer.send(half)

    async with pool_for(script) as (pool, server):
        await ask(pool)
        with pytest.raises(ConnectionClosedError) as caught:
            await ask(pool)
        assert caught.value.started
        assert server.connections == 1
        await ask(pool)
        assert server.connections == 2


async def test_an_answer_in_pieces() -> None:
    data = answer(b"x" * 50)

    async def script(peer: Peer) -> None:
        while True:
            await peer.read()
            await peer.send(*(data[at : at + 1] for at in range(len(data))))

    async with pool_for(script) as (pool, _):
        assert (await ask(pool)).body == b"x" * 50
        assert (await ask(pool)).body == b"x" * 50


async def test_a_slow_answer_times_out_and_is_never_taken_for_the_next() -> None:
    clock, gate = HandClock(), Gate()
    async with pool_for(gate, clock) as (pool, server):
        slow = ask(pool)
        peer, _ = await gate.arrived.get()
        clock.advance(SECONDS)
        with pytest.raises(AnswerTimeoutError):
            await slow
        await peer.send(answer(b"late"))
        second = ask(pool)
        await gate.let_through(b"mine")
        assert (await second).body == b"mine"
        assert server.connections == 2


async def test_cancelled_in_mid_request_the_connection_is_dropped() -> None:
    heard: asyncio.Queue[Peer] = asyncio.Queue()
    left = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read()
        await heard.put(peer)
        if peer.number == 1:
            await peer.send(answer(b"abcdef")[:-3])
            await peer.gone()
            left.set()
        else:
            await peer.send(answer(b"new"))

    async with pool_for(script, connections=1) as (pool, server):
        first = ask(pool)
        await heard.get()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await left.wait()
        assert (await ask(pool)).body == b"new"
        assert server.connections == 2


async def test_the_pool_is_bounded_and_fair() -> None:
    gate = Gate()
    async with pool_for(gate, connections=2) as (pool, server):
        order: list[int] = []

        async def one(number: int) -> None:
            await pool.request(b"POST / HTTP/1.1\r\ncontent-length: 1\r\n\r\n%d" % number, SECONDS)
            order.append(number)

        tasks = [asyncio.create_task(one(number)) for number in range(8)]
        asked = [int(await gate.let_through()) for _ in tasks]
        await asyncio.gather(*tasks)
        assert sorted(asked[:2]) == [0, 1], "two connections open at the same time"
        assert asked[2:] == list(range(2, 8))
        assert gate.most == 2
        assert server.connections == 2


async def test_a_wait_for_a_connection_ends_with_the_timeout() -> None:
    clock, gate = HandClock(), Gate()
    async with pool_for(gate, clock, connections=1) as (pool, _):
        first = asyncio.create_task(pool.request(POST, 2 * SECONDS))
        await gate.arrived.get()
        second = ask(pool)
        await asyncio.sleep(0)
        clock.advance(SECONDS)
        with pytest.raises(PoolBusyError):
            await second
        assert not first.done()
        first.cancel()


async def test_a_cancelled_wait_gives_its_place_to_the_next() -> None:
    gate = Gate()
    async with pool_for(gate, connections=1) as (pool, server):

        async def first_then_cancel() -> None:
            await pool.request(POST, SECONDS)
            second.cancel()  # its place was promised to the second a moment ago, which doesn't run yet

        first = asyncio.create_task(first_then_cancel())
        second, third = ask(pool), ask(pool)
        await gate.let_through()
        await first
        await gate.let_through()
        assert (await third).status == 200
        assert second.cancelled()
        assert server.connections == 1


async def test_a_failed_connect_gives_its_place_back() -> None:
    async with serve(always(answer())) as server:
        port = server.port
    pool = Pool("127.0.0.1", port, None, AwsSettings(connections=1), HandClock())
    for _ in range(3):
        with pytest.raises(ConnectError, match=str(port)):
            await pool.request(POST, SECONDS)
    await pool.close()


async def test_close_ends_calls_and_waits() -> None:
    gate = Gate()
    async with pool_for(gate, connections=1) as (pool, _):
        first, second = ask(pool), ask(pool)
        await gate.arrived.get()
        await pool.close()
        for task in (first, second, ask(pool)):
            with pytest.raises(PoolClosedError):
                await task


async def test_what_comes_unasked_ends_the_connection() -> None:
    answered, dropped = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read()
        await peer.send(answer(b"%d" % peer.number))
        if peer.number == 1:
            await answered.wait()
            await peer.send(answer(b"forged"))
            await peer.gone()
            dropped.set()

    async with pool_for(script) as (pool, _):
        assert (await ask(pool)).body == b"1"
        answered.set()
        await dropped.wait()
        assert (await ask(pool)).body == b"2"


async def test_a_bad_answer_and_an_oversize_one_end_the_connection() -> None:
    bad = {1: b"no http\r\n\r\n", 2: answer(b"x" * 200)}

    async def script(peer: Peer) -> None:
        while True:
            await peer.read()
            await peer.send(bad.get(peer.number, answer(b"ok")))

    async with pool_for(script, max_response=100) as (pool, _):
        with pytest.raises(BadResponseError):
            await ask(pool)
        with pytest.raises(ResponseTooLargeError):
            await ask(pool)
        assert (await ask(pool)).body == b"ok"


async def test_a_connection_that_was_idle_for_long_is_not_used() -> None:
    clock = HandClock()
    async with pool_for(always(answer()), clock, keep_alive=10.0) as (pool, server):
        await ask(pool)
        clock.advance(9)
        await ask(pool)
        assert server.connections == 1
        clock.advance(11)
        await ask(pool)
        assert server.connections == 2


async def test_a_server_that_takes_the_connection_but_not_tls() -> None:
    async def script(peer: Peer) -> None:
        await peer.gone()

    async with serve(script) as server:
        options = AwsSettings(connect_timeout=0.05)
        pool = Pool("127.0.0.1", server.port, ssl.create_default_context(), options, HandClock())
        with pytest.raises(ConnectError, match=r"within 0\.05 s"):
            await pool.request(POST, SECONDS)
        await pool.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    return context


async def test_tls(authority: trustme.CA, server_tls: ssl.SSLContext) -> None:
    async with serve(always(answer(b"x" * 100_000)), server_tls) as server:
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        client = HttpClient(AwsSettings(), HandClock(), lambda: trusting)
        pool = client.pool(server.url)
        for _ in range(2):
            assert len((await pool.request(POST, SECONDS)).body) == 100_000
        assert server.connections == 1
        await client.close()


async def test_tls_of_a_stranger(server_tls: ssl.SSLContext) -> None:
    async with serve(always(answer()), server_tls) as server:
        client = HttpClient(AwsSettings(), HandClock(), ssl.create_default_context)
        with pytest.raises(ConnectError, match="certificate"):
            await client.pool(server.url).request(POST, SECONDS)
        await client.close()


async def test_lanes_have_pools_of_their_own() -> None:
    client = HttpClient(AwsSettings(), HandClock(), ssl.create_default_context)
    assert client.pool("http://h/a") is client.pool("http://h/b")
    assert client.pool("http://h") is not client.pool("http://h", "poll")
    assert client.pool("http://h") is not client.pool("http://h:81")
    with pytest.raises(ValueError, match="ftp"):
        client.pool("ftp://h")
    await client.close()
