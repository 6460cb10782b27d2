"""A relay sends what was committed, once and in the order of each key, whatever goes wrong around it."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from tests.outbox.databases import Database, empty_postgres, run, with_tables
from tests.servers import Server

from msgbus import Bus, ConfigError, Message, Queue, Refused, SendOptions, Topic, Unavailable
from msgbus.broker import Result
from msgbus.headers import EXPIRES
from msgbus.message import Outgoing
from msgbus.outbox import Outbox, Relay, holding
from msgbus.outbox import relay as relay_module
from msgbus.outbox.rows import PARTS, Row, part_of
from msgbus.outbox.sql import SqlStore
from msgbus.outbox.store import Page
from msgbus.publishing.middleware import SendNext

PATIENCE = 60.0  # seconds: of a slow machine


@dataclass
class Order:
    """The payload."""

    id: str
    n: int = 0


SLOW = """INSERT INTO msgbus_outbox (part, id, kind, name, key, headers, body, created)
VALUES ({part}, 'slow{n}', 'topic', 'orders', 'slow', CAST('{{"ce-id"\\:"slow{n}"}}' AS text), '{{"id"\\:"s"}}', 1)"""

orders = Topic("orders", Order, key="id")
jobs = Queue("jobs", Order)
late = Topic("late", Order, key="id")


class Service:
    """A bus on the embedded broker with a handler that remembers, and an outbox."""

    def __init__(self, database: Database, middleware: Any = None) -> None:
        self.database = database
        self.bus = Bus("memory://", publish_middlewares=[middleware] if middleware else [])
        self.bus.publishes(orders, jobs, late)
        self.outbox = Outbox(self.bus)
        self.got: list[Message[Order]] = []
        self._more = asyncio.Event()
        self.bus.subscriber(orders, group="g")(self._handle)
        self.bus.subscriber(late, group="g")(self._handle_late)
        self.bus.consumer(jobs)(self._handle_job)

    async def _handle(self, message: Message[Order]) -> None:
        self.got.append(message)
        self._more.set()

    async def _handle_late(self, message: Message[Order]) -> None:
        await self._handle(message)

    async def _handle_job(self, message: Message[Order]) -> None:
        await self._handle(message)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds, looking whenever a message came."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._more.clear()
                await self._more.wait()

    async def commit(self, *keys: str, target: Any = orders) -> list[str]:
        """One transaction with a message for each key; their ids."""
        engine = create_async_engine(self.database.url)
        try:
            async with engine.begin() as connection:
                await connection.execute(sa.text("INSERT INTO business VALUES ('x')"))
                return [await self.outbox.publish(connection, target, Order(k, n)) for n, k in enumerate(keys)]
        finally:
            await engine.dispose()

    @asynccontextmanager
    async def relaying(self, *stores: SqlStore, **options: Any) -> AsyncIterator[list[Relay]]:
        """Consume, with a relay for each store."""
        async with self.bus.consuming(), AsyncExitStack() as stack:
            relays = [Relay(self.bus, store, **options) for store in stores]
            for relay in relays:
                await stack.enter_async_context(relay.running())
            yield relays

    @property
    def ids(self) -> list[str]:
        """Of all that came."""
        return [message.id for message in self.got]


@pytest.fixture
async def open_store(database: Database) -> AsyncIterator[Callable[..., SqlStore]]:
    """Makes stores that are closed at the end."""
    made: list[SqlStore] = []

    def make(kind: type[SqlStore] = SqlStore) -> SqlStore:
        made.append(kind(database.url))
        return made[-1]

    yield make
    for store in made:
        await store.close()


async def left(database: Database) -> int:
    """Rows in the table."""
    return int(str((await run(database, "SELECT count(*) FROM msgbus_outbox"))[0][0]))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Ask again and again: a database, or a relay, tells nobody."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def until_left(database: Database, count: int) -> None:
    """Sent is not yet deleted."""

    async def is_so() -> bool:
        return await left(database) == count

    await until(is_so)


async def test_what_was_committed_is_sent_whole(database: Database, open_store: Any) -> None:
    service = Service(database)
    ids = await service.commit("a", "b", "a", "a")
    async with service.relaying(open_store()) as (relay,):
        await service.until(lambda: len(service.got) == 4)
        ids += await service.commit("c", target=jobs)
        relay.wake()
        await service.until(lambda: len(service.got) == 5)
        await until_left(database, 0)
        assert relay.trouble is None
        assert len(relay.parts) == PARTS
    assert relay.sent == 5
    assert sorted(service.ids) == sorted(ids)
    assert [message.payload.n for message in service.got if message.key == "a"] == [0, 2, 3]
    assert service.got[0].headers["ce-source"] == "msgbus"
    assert (await open_store().status()).unowned == PARTS  # let go of at the end


async def test_options_and_headers_arrive(database: Database, open_store: Any) -> None:
    service = Service(database)
    engine = create_async_engine(database.url)
    async with engine.begin() as connection:
        await service.outbox.publish(
            connection, orders, Order("a"), headers={"who": "mé"}, options=SendOptions(id="mine", expires_in=600)
        )
    await engine.dispose()
    async with service.relaying(open_store()):
        await service.until(lambda: bool(service.got))
    (message,) = service.got
    assert (message.id, message.headers["who"]) == ("mine", "mé")
    assert EXPIRES in message.headers


async def test_several_relays_share_the_work_and_keep_the_order(database: Database, open_store: Any) -> None:
    service = Service(database)
    async with service.relaying(open_store(), open_store(), lease=1.0, batch=7) as relays:
        for _ in range(10):
            await service.commit(*(f"k{n % 5}" for n in range(20)))
        await service.until(lambda: len(set(service.ids)) == 200)

        async def is_fair() -> bool:
            return [len(relay.parts) for relay in relays] == [PARTS // 2] * 2

        await until(is_fair)
        await service.commit(*(f"k{n}" for n in range(50)))
        await service.until(lambda: len(set(service.ids)) == 250)
        assert all(relay.sent for relay in relays)
    for key in range(5):
        told = [m.payload.n for m in service.got if m.key == f"k{key}"][:40]
        assert told == [n for _ in range(10) for n in range(20) if n % 5 == key]


class _DiesAfterSending(SqlStore):
    """Its relay never gets to delete what it sent, nor to say goodbye: as if it was killed in between."""

    dies: asyncio.Event

    async def done(self, owner: str, rows: Sequence[Row], tokens: Mapping[int, int]) -> int:
        self.dies.set()
        await asyncio.Event().wait()
        return 0

    async def leave(self, owner: str) -> None:
        """Nothing."""


async def test_a_killed_relay_is_taken_over_from(database: Database, open_store: Any) -> None:
    """What it had sent and not deleted comes again, under the same id; nothing is lost."""
    service = Service(database)
    ids = await service.commit("a", "b", "c")
    dying = open_store(_DiesAfterSending)
    dying.dies = asyncio.Event()
    async with service.bus.consuming():
        first = asyncio.create_task(Relay(service.bus, dying, lease=1.0).run())
        async with asyncio.timeout(PATIENCE):
            await dying.dies.wait()
        first.cancel()
        await asyncio.wait([first])
        async with Relay(service.bus, open_store(), lease=1.0).running():
            await service.until(lambda: len(service.got) == 6)
            await until_left(database, 0)
    assert sorted(service.ids) == sorted(ids * 2)


async def _refuses_odd(batch: Sequence[Outgoing], send: Any) -> Sequence[Result]:
    """As a broker that will never take a body with 'odd' in it."""
    results = iter(await send([out for out in batch if b"odd" not in out.body]))
    return [Refused("too odd") if b"odd" in out.body else next(results) for out in batch]


@pytest.mark.parametrize("choice", ["pass", "hold"])
async def test_what_is_refused_is_dead_with_its_reason(choice: str, database: Database, open_store: Any) -> None:
    service = Service(database, _refuses_odd)
    engine = create_async_engine(database.url)
    async with engine.begin() as connection:
        for id_, key in (("odd", "k"), ("x1", "k"), ("x2", "other"), ("x3", "k"), ("odd", "single")):
            await service.outbox.publish(connection, orders, Order(id_), key=key)
    await engine.dispose()
    sent = ["x2"] if choice == "hold" else ["x1", "x2", "x3"]
    async with service.relaying(open_store(), on_refused=choice):
        await service.until(lambda: len(service.got) == len(sent))
        await until_left(database, 2 if choice == "hold" else 0)
    assert sorted(message.payload.id for message in service.got) == sent
    dead = await run(database, "SELECT key, reason FROM msgbus_outbox_dead ORDER BY seq")
    assert dead == [("k", "Refused: too odd"), ("single", "Refused: too odd")]


async def test_what_waited_for_a_dead_one_comes_behind_it(database: Database, open_store: Any) -> None:
    refused = ["k"]

    async def refuses(batch: Sequence[Outgoing], send: SendNext) -> Sequence[Result]:
        results = iter(await send([out for out in batch if out.key not in refused]))
        return [Refused("no") if out.key in refused else next(results) for out in batch]

    service, store = Service(database, refuses), open_store()
    ids = await service.commit("k", "other", "k", "k")
    async with service.relaying(open_store(), on_refused="hold", lease=1.0) as (relay,):
        await service.until(lambda: service.ids == [ids[1]])
        await until_left(database, 2)
        refused.clear()
        later = await service.commit("more", "k")
        await service.until(lambda: service.ids == [ids[1], later[0]])
        assert await store.retry(await store.dead(10)) == 1
        relay.wake()
        await service.until(lambda: len(service.ids) == 6)
    assert service.ids == [ids[1], later[0], ids[0], ids[2], ids[3], later[1]]


async def test_a_place_that_fails_keeps_no_other_from_its_messages(
    database: Database, open_store: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Its own wait, in order, and come when it works again; one that hangs is waited for by nobody else."""
    is_down, hangs = [True], asyncio.Event()

    async def flaky(batch: Sequence[Outgoing], send: SendNext) -> Sequence[Result]:
        if batch[0].address.name == "jobs":
            await hangs.wait()
        elif batch[0].address.name == "late" and is_down[0]:
            return [Unavailable("down")] * len(batch)
        return await send(batch)

    service = Service(database, flaky)
    first = await service.commit("a", "a", target=late)
    hanging = await service.commit("j", target=jobs)
    with caplog.at_level(logging.WARNING, "msgbus.outbox"):
        async with service.relaying(open_store()) as (relay,):
            good = await service.commit("a", "b")
            await service.until(lambda: set(service.ids) == set(good))
            await until(lambda: _in_trouble(relay))
            assert "down" in str(relay.trouble)
            health = service.bus.health()
            assert (health.ready, [each for each in health.problems if "outbox: Unavailable: down" in each] != []) == (
                True,
                True,
            )
            is_down[0] = False
            await service.until(lambda: set(service.ids) == {*good, *first})
            hangs.set()
            await service.until(lambda: set(service.ids) == {*good, *first, *hanging})
            await until_left(database, 0)
    assert [i for i in service.ids if i in first] == first
    assert "topic/late waits" in caplog.text


class _Watched(SqlStore):
    """`ahead` is set when a second page was asked for while nothing had to be skipped."""

    reads = 0
    ahead = asyncio.Event()

    async def read(self, owner: str, wanted: Any, skip: Any, limit: int) -> Page:
        self.reads += not skip
        if self.reads == 2:
            self.ahead.set()
        return await super().read(owner, wanted, skip, limit)


@pytest.mark.parametrize("fault", ["none", "down", "refused"])
async def test_what_is_read_ahead_comes_behind_what_is_being_sent(
    fault: str, database: Database, open_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first page stays out until the second one was asked for; then some of the first is not sent."""
    monkeypatch.setattr(relay_module, "_PATIENCE", PATIENCE)
    monkeypatch.setattr(_Watched, "ahead", asyncio.Event())
    batches: list[int] = []

    async def faulty(batch: Sequence[Outgoing], send: SendNext) -> Sequence[Result]:
        batches.append(len(batch))
        if len(batches) == 1:
            await _Watched.ahead.wait()
            error = {"none": None, "down": Unavailable("down"), "refused": Refused("no")}[fault]
            if error is not None:
                return [*await send(batch[:1]), *[error] * (len(batch) - 1)]
        return await send(batch)

    service = Service(database, faulty)
    ids = await service.commit(*["k"] * 12)
    dead = 2 if fault == "refused" else 0
    async with service.relaying(open_store(_Watched), batch=3):
        await service.until(lambda: len(service.got) == len(ids) - dead)
        await until_left(database, 0)
    assert service.ids == [ids[0], *ids[1 + dead :]]
    assert batches[:1] == [3]


async def test_rows_that_are_no_messages_are_dead_alone(database: Database, open_store: Any) -> None:
    service = Service(database)
    await service.commit("a", "b", "c")
    await run(database, "UPDATE msgbus_outbox SET headers = '[1]' WHERE key = 'b'")
    async with service.relaying(open_store()):
        await service.until(lambda: len(service.got) == 2)
        await until_left(database, 0)
    ((reason,),) = await run(database, "SELECT reason FROM msgbus_outbox_dead")
    assert "is damaged" in str(reason)


async def test_what_is_not_declared_waits(database: Database, open_store: Any) -> None:
    """An older relay beside a newer writer."""
    service = Service(database)
    await service.commit("a")
    await run(database, "UPDATE msgbus_outbox SET name = 'newer'")
    await service.commit("b")
    async with service.relaying(open_store()) as (relay,):
        await service.until(lambda: len(service.got) == 1)
        await until(lambda: _in_trouble(relay))
        assert "topic/newer is not declared here" in str(relay.trouble)
    assert await left(database) == 1


async def test_wrong_tables_end_it(database: Database, open_store: Any) -> None:
    await run(database, "UPDATE msgbus_outbox_version SET version = 2")
    bus = Bus("memory://")
    async with bus:
        with pytest.raises(ConfigError, match="version"):
            await Relay(bus, open_store()).run()
        assert not bus.health().live
        assert "outbox: ConfigError: the tables" in bus.health().problems[0]
        await run(database, "UPDATE msgbus_outbox_version SET version = 1")
        async with Relay(bus, open_store()).running() as relay:
            await until(lambda: _holds(relay))
            assert bus.health().live
        assert bus.beside == []
    with pytest.raises(ConfigError, match="Relay: batch"):
        Relay(bus, open_store(), batch=0)


async def test_places_drawn_before_are_not_lost(on_postgres: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transactions commit in another order than they wrote in, while a relay reads; no full scan makes up for it."""
    monkeypatch.setattr(holding, "_SCAN", 1e9)
    service = Service(on_postgres)
    store = SqlStore(on_postgres.url)
    engine = create_async_engine(on_postgres.url, pool_size=20)
    ids: list[str] = []
    slow: list[Any] = []
    async with service.relaying(store):
        for n in range(40):
            if n % 4 == 0:
                slow.append(await engine.connect())
                await slow[-1].execute(sa.text(SLOW.format(n=n, part=part_of("k"))))
                ids.append(f"slow{n}")
            async with engine.begin() as connection:
                ids.append(await service.outbox.publish(connection, orders, Order("k", n)))
            await service.until(lambda: ids[-1] in service.ids)  # read past the place of the slow one
            if len(slow) > 3:
                await slow[0].commit()
                await slow.pop(0).close()
        for connection in slow:
            await connection.commit()
            await connection.close()
        await until_left(on_postgres, 0)
        await service.until(lambda: sorted(service.ids) == sorted(ids))
    assert [message.payload.n for message in service.got if message.key == "k"] == list(range(40))
    await engine.dispose()
    await store.close()


async def test_a_relay_elsewhere_hears_of_a_commit(on_postgres: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would look again in ten minutes."""
    service, here, there = Service(on_postgres), SqlStore(on_postgres.url), SqlStore(on_postgres.url)
    outbox = Outbox(service.bus, notify=here)
    monkeypatch.setattr(relay_module, "_SHORTEST_POLL", 600.0)
    async with service.relaying(there, poll=600.0):
        for _ in range(3):
            ids = await service.commit("a", "b")

            async def has_come(ids: Sequence[str] = ids) -> bool:
                outbox.wake()  # again, since it may not listen yet
                return set(ids) <= set(service.ids)

            await until(has_come)
    with pytest.raises(ConfigError, match="notify=SqlStore"):
        service.outbox.wake()
    await here.close()
    await there.close()


async def test_a_listener_that_is_cancelled_at_any_moment_leaves_no_connection(on_postgres: Database) -> None:
    """Half open ones too: an unclosed one is a warning, and warnings are errors here."""
    store = SqlStore(on_postgres.url)
    for moment in range(30):
        listens = asyncio.create_task(_listen(store))
        for _ in range(moment):
            await asyncio.sleep(0)
        listens.cancel()
        await asyncio.wait([listens])
    await store.close()
    gc.collect()


async def _listen(store: SqlStore) -> None:
    async with store.listening(lambda: None) as ended:
        await ended.wait()


async def test_a_database_that_restarts_loses_nothing(killable: Callable[[str], Server]) -> None:
    server = killable("postgres")
    database = await with_tables(await empty_postgres(server.url))
    service, store = Service(database), SqlStore(database.url)
    async with service.relaying(store, lease=5.0) as (relay,):
        ids = await service.commit("a", "b")
        await service.until(lambda: sorted(service.ids) == sorted(ids))
        await until_left(database, 0)
        server.kill()
        relay.wake()
        await until(lambda: _in_trouble(relay))
        server.start()
        ids += await service.commit("a", "c")
        await service.until(lambda: sorted(service.ids) == sorted(ids))
        await until_left(database, 0)
        await until(lambda: _is_well(relay))
    await store.close()


async def _in_trouble(relay: Relay) -> bool:
    return relay.trouble is not None


async def _holds(relay: Relay) -> bool:
    return bool(relay.parts)


async def _is_well(relay: Relay) -> bool:
    return relay.trouble is None
