"""Who is let in, over what, and what a broker finds out about its server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.servers import Handle, Proxy, Server, UnavailableError
from tests.servers.fixtures import give_up
from tests.servers.model import Definition
from tests.slowness import slowness
from tests.stomp.flow import Flow
from tests.stomp.secure import Certificates, activemq_with, behind_tls

from msgbus.broker import QueueSpec
from msgbus.brokers.stomp import StompBroker
from msgbus.clock import SystemClock
from msgbus.errors import BusError, ConfigError, Disconnected, Refused
from msgbus.message import Act, Outgoing, Receipt, Settlement, Source

CLIENTS = ("lean", "stomp.py")


@pytest.fixture
def start_special() -> Iterator[Callable[[Definition], Server]]:
    """Starts a server with rules of its own; it ends with the test."""
    mine: list[Server] = []

    def start(kind: Definition) -> Server:
        mine.append(Server.new(kind))
        try:
            mine[-1].start()
        except UnavailableError as error:
            give_up(error)
        return mine[-1]

    yield start
    for each in mine:
        each.close()


async def _refusal(url: str) -> BusError:
    """What `connect` raises, at once and without trying again."""
    broker = StompBroker(url, clock=SystemClock())
    try:
        async with asyncio.timeout(10 * slowness()):
            await broker.connect()
    except BusError as error:
        assert not broker.status().connected
        return error
    finally:
        await broker.close()
    raise AssertionError("it was let in")


async def _works(url: str, header: str = "a:b") -> StompBroker:
    """Send, receive and acknowledge one message; the closed broker."""
    broker, source = StompBroker(url, clock=SystemClock()), Source("queue", f"works-{uuid.uuid4().hex}")
    await broker.connect()
    await broker.admin.ensure([QueueSpec(source)], "create")
    async with broker.receiver(source, prefetch=1) as receiver:
        (result,) = await broker.send([Outgoing(source.address, "1", b"\0body", {"ce-id": "1", "x": header})])
        assert isinstance(result, Receipt)
        (delivery,) = await receiver.receive(1, 10.0)
        assert (delivery.body, delivery.headers["x"]) == (b"\0body", header)
        assert list(await receiver.settle([Settlement(delivery, Act.ACK)])) == [None]
    await broker.close()
    return broker


@pytest.mark.parametrize("client", CLIENTS)
async def test_wrong_credentials_are_refused_by_rabbitmq(rabbitmq: Handle, client: str) -> None:
    place = urlsplit(rabbitmq.url_of("stomp")).netloc.rpartition("@")[2]
    for account in ("guest:wrong@", "nobody:guest@"):
        error = await _refusal(f"stomp://{account}{place}/?client={client}")
        assert isinstance(error, Refused)
        assert "Access refused" in str(error)
        assert "wrong" not in str(error)


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_wrong_virtual_host_is_refused(rabbitmq: Handle, client: str) -> None:
    error = await _refusal(f"{rabbitmq.url_of('stomp')}nowhere?client={client}")
    assert isinstance(error, Refused)
    assert "nowhere" in str(error)


async def test_accounts_of_activemq(start_special: Callable[[Definition], Server]) -> None:
    server = start_special(activemq_with(accounts=True, scheduler=False))
    place = urlsplit(server.url).netloc
    for client in CLIENTS:
        for account in ("", "shop:wrong@"):
            error = await _refusal(f"stomp://{account}{place}/?client={client}")
            assert isinstance(error, Refused), error
            assert "password is invalid" in str(error)
        broker = await _works(f"stomp://shop:s3cret@{place}/?client={client}")
        can = broker.capabilities(Source("queue", "q"))
        assert (can.retry_delay, can.send_delay) == (None, None), "there is no scheduler: the core must hold retries"


async def test_a_scheduler_is_noticed(activemq: Handle) -> None:
    can = (await _works(activemq.url_of("stomp"))).capabilities(Source("queue", "q"))
    assert can.retry_delay is not None
    assert can.send_delay is not None


@pytest.mark.parametrize("client", CLIENTS)
async def test_processes_that_start_at_once_find_each_others_queues(rabbitmq: Handle, client: str) -> None:
    """Asking makes nothing: who asks beside another neither meets its question nor takes it for the queue."""
    url, rounds = f"{rabbitmq.url_of('stomp')}?client={client}", 5
    brokers = [StompBroker(url, clock=SystemClock()) for _ in range(3)]
    for broker in brokers:
        await broker.connect()
    for _ in range(rounds):
        spec = QueueSpec(Source("queue", f"at-once-{uuid.uuid4().hex}"))
        await asyncio.gather(*(broker.admin.ensure([spec], "create") for broker in brokers))
        for broker in brokers:
            assert not list(await broker.admin.ensure([spec], "verify"))
    for broker in brokers:
        await broker.close()


async def test_what_is_no_stomp_is_refused(rabbitmq: Handle) -> None:
    amqp, stomp = urlsplit(rabbitmq.url).port, urlsplit(rabbitmq.url_of("stomp")).port
    error = await _refusal(f"stomp://127.0.0.1:{amqp}/?timeout=5")
    assert isinstance(error, Refused | Disconnected)
    error = await _refusal(f"stomp+ssl://127.0.0.1:{stomp}/?timeout=5")
    assert isinstance(error, Refused | Disconnected)


@pytest.mark.parametrize("client", CLIENTS)
async def test_nobody_listens(client: str) -> None:
    error = await _refusal(f"stomp://127.0.0.1:1,127.0.0.1:2/?client={client}")
    assert isinstance(error, Disconnected)


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_frozen_server_is_given_up(activemq: Handle, client: str) -> None:
    async with Proxy(activemq.url_of("stomp")) as proxy:
        proxy.freeze()
        error = await _refusal(f"{proxy.url}?client={client}&timeout=0.5")
        assert isinstance(error, Disconnected)
        assert "0.5 s" in str(error)


@pytest.mark.parametrize("client", CLIENTS)
async def test_tls(activemq: Handle, tmp_path: Path, client: str) -> None:
    certificates = Certificates(tmp_path)
    async with behind_tls(activemq.url_of("stomp"), certificates.server) as port:
        await _works(f"stomp+ssl://localhost:{port}/?client={client}&ca={certificates.ca}")
        error = await _refusal(f"stomp+ssl://localhost:{port}/?client={client}&ca={certificates.stranger}")
        assert isinstance(error, Refused)
        assert "not trusted" in str(error)
        error = await _refusal(f"stomp+ssl://127.0.0.1:{port}/?client={client}&ca={certificates.ca}")
        assert isinstance(error, Refused), "the certificate is of another name"
        error = await _refusal(f"stomp+ssl://localhost:{port}/?client={client}")
        assert isinstance(error, Refused), "the system's authorities do not know it"


@pytest.mark.parametrize("client", CLIENTS)
async def test_many_messages_over_tls(activemq: Handle, tmp_path: Path, client: str) -> None:
    certificates = Certificates(tmp_path)
    async with behind_tls(activemq.url_of("stomp"), certificates.server) as port:
        flow = Flow(f"stomp+ssl://localhost:{port}/?client={client}&ca={certificates.ca}", 1000)
        await flow.run()
        assert sorted(flow.seen) == list(range(1000))


@pytest.mark.parametrize("server", ["activemq", "rabbitmq"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
async def test_older_versions(request: pytest.FixtureRequest, server: str, version: str) -> None:
    handle: Handle = request.getfixturevalue(server)
    await _works(f"{handle.url_of('stomp')}?version={version}", "a:b" if version == "1.1" else "ab")


async def test_version_1_0_refuses_a_header_that_it_cannot_write(activemq: Handle) -> None:
    broker, source = (
        StompBroker(f"{activemq.url_of('stomp')}?version=1.0", clock=SystemClock()),
        Source("queue", f"old-{uuid.uuid4().hex}"),
    )
    await broker.connect()
    await broker.admin.ensure([QueueSpec(source)], "create")
    for outs in (["a\nb"], ["fine", "a\nb", "fine"]):  # alone, and in a transaction
        results = await broker.send([Outgoing(source.address, "1", b"x", {"ce-id": "1", "h": each}) for each in outs])
        assert [type(result) for result in results] == [Refused if "\n" in each else Receipt for each in outs]
    assert await broker.admin.purge(source) == 2
    await broker.close()


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("stomp://h/?nope=1", "no option 'nope'"),
        ("stomp://h/?client=other", "allowed are lean, stomp.py"),
        ("stomp://h/?heartbeat=often", "no float"),
        ("stomp://h/?heartbeat=-1", "and more"),
        ("stomp://h/?client=stomp.py&version=1.1", "speaks 1.2 here"),
        ("stomp://h:port/", "no host:port"),
        ("stomp+ssl://h/?key=/nowhere.pem", "needs cert="),
    ],
)
def test_settings_that_cannot_work(url: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        StompBroker(url, clock=SystemClock())


async def test_certificates_that_cannot_be_read() -> None:
    broker = StompBroker("stomp+ssl://localhost:1/?ca=/nowhere.pem", clock=SystemClock())
    with pytest.raises(ConfigError, match="can't read"):
        await broker.connect()
