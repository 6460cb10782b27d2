"""TLS with a CA of one's own, certificates as accounts, and what the server agrees to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.amqp.conftest import Connect, out, queue, send, take, wrong
from tests.amqp.management import add_user
from tests.amqp.secure import USER, started, with_tls
from tests.servers import Server

from msgbus.errors import ConfigError, Refused
from msgbus.message import Act, Settlement


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the certificates are."""
    return tmp_path_factory.mktemp("pem")


@pytest.fixture(scope="module")
def secure(pem: Path) -> Iterator[Server]:
    """One for all tests of this file."""
    with started(with_tls(pem)) as server:
        yield server


def at(server: Server, account: str = "guest:guest", host: str = "localhost") -> str:
    """The TLS endpoint."""
    return f"amqps://{account}@{host}:{server.place.ports['amqps']}/"


async def test_a_message_goes_round_over_tls(connect: Connect, secure: Server, pem: Path, name: str) -> None:
    broker = await connect(f"ca={pem / 'ca.pem'}", url=at(secure))
    source = await queue(broker, name)
    async with broker.receiver(source, prefetch=10) as receiver:
        await send(broker, out(source, bytes(100_000)))
        (delivery,) = await take(receiver)
        assert delivery.body == bytes(100_000)
        assert await receiver.settle([Settlement(delivery, Act.ACK)]) == [None]


@pytest.mark.parametrize("authority", ["stranger.pem", ""])
async def test_a_server_that_is_not_trusted_is_refused_at_once(
    connect: Connect, secure: Server, pem: Path, authority: str
) -> None:
    with pytest.raises(Refused, match=r"localhost:\d+: its certificate is not trusted: "):
        await connect(*([f"ca={pem / authority}"] if authority else []), url=at(secure))


async def test_a_server_of_another_name_is_refused(connect: Connect, secure: Server, pem: Path) -> None:
    with pytest.raises(Refused, match=r"not trusted: .*127\.0\.0\.1"):
        await connect(f"ca={pem / 'ca.pem'}", url=at(secure, host="127.0.0.1"))


async def test_tls_to_a_port_without_it_is_refused(connect: Connect, secure: Server, pem: Path) -> None:
    with pytest.raises(Refused, match="no TLS connection"):
        await connect(f"ca={pem / 'ca.pem'}", url=f"amqps://guest:guest@localhost:{secure.place.ports['amqp']}/")


async def test_a_certificate_is_an_account(connect: Connect, secure: Server, pem: Path, name: str) -> None:
    await add_user(secure, USER)
    files = [f"ca={pem / 'ca.pem'}", f"cert={pem / 'client.pem'}", f"key={pem / 'client.key'}"]
    broker = await connect("auth=external", *files, url=at(secure).replace("guest:guest@", ""))
    await send(broker, out(await queue(broker, name), b"x"))


async def test_without_a_certificate_there_is_no_account(connect: Connect, secure: Server, pem: Path) -> None:
    with pytest.raises(Refused, match=r"(?i)external|access_refused"):
        await connect("auth=external", f"ca={pem / 'ca.pem'}", url=at(secure))


async def test_a_wrong_password_is_refused_at_once(connect: Connect, secure: Server, pem: Path) -> None:
    with pytest.raises(Refused, match="ACCESS_REFUSED"):
        await connect(f"ca={pem / 'ca.pem'}", url=at(secure, "guest:wrong"))


@pytest.mark.parametrize("option", ["ca=/nowhere.pem", "cert=/nowhere.pem"])
async def test_files_that_are_not_there_are_a_wrong_setting(connect: Connect, secure: Server, option: str) -> None:
    with pytest.raises(ConfigError, match=r"can't read the certificates of \?ca="):
        await connect(option, url=at(secure))


@pytest.mark.parametrize("ours", ["", "frame_max=4096"])
async def test_big_bodies_keep_to_the_servers_frame_size(
    connect: Connect, secure: Server, name: str, ours: str
) -> None:
    """The server of this file takes frames of 8,192 bytes, and closes the connection for a larger one."""
    broker = await connect(*([ours] if ours else []), url=secure.url)
    source = await queue(broker, name)
    body = bytes(range(256)) * 4000
    async with broker.receiver(source, prefetch=10) as receiver:
        await send(broker, out(source, body, small="x" * 3000))
        (delivery,) = await take(receiver)
        assert (delivery.body, delivery.headers["small"]) == (body, "x" * 3000)


async def test_headers_that_fill_a_frame_are_refused_alone(connect: Connect, secure: Server, name: str) -> None:
    broker = await connect(url=secure.url)
    source = await queue(broker, name)
    results = await broker.send([out(source, 1), out(source, 2, large="x" * 200_000), out(source, 3)])
    (error,) = wrong(results)
    assert results[1] is error
    assert isinstance(error, Refused)
    async with broker.receiver(source, prefetch=10) as receiver:
        assert sorted(d.body for d in await take(receiver, 2)) == [b"1", b"3"]
