"""A whole broker of a third party: queues and topics in one SQLite file, shared by the processes of one machine.

`sqlite:///PATH[?lease=30&poll=0.05]`. docs/how-to/write-a-broker.md walks through it, and the shared suite runs on it
(tests/conformance/test_example.py). Nothing but the standard library is needed.

A statement on a local file takes some microseconds, so none is awaited; a broker whose client waits awaits there, and
then has to think of cancellation: see `receive`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from msgbus import Bus, Message, Queue, Retry
from msgbus import headers as h
from msgbus.broker import Backlog, Binding, Capabilities, Difference, Mode, Part, QueueSpec, Status, TopicSpec
from msgbus.brokers import register
from msgbus.brokers.urls import options_of
from msgbus.clock import Clock
from msgbus.config import Settings
from msgbus.errors import BusError, Disconnected, LeaseLost, ReceiverClosed, Refused, Throttled
from msgbus.message import Act, Address, Delivery, Outgoing, Receipt, Settlement, Source, Start

MESSAGE_BYTES = 1024 * 1024
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS topics (name TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS places (
    name TEXT PRIMARY KEY, topic TEXT, ordered INTEGER, lease REAL, max_deliveries INTEGER);
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, place TEXT NOT NULL REFERENCES places (name) ON DELETE CASCADE,
    body BLOB CHECK (length(body) <= {MESSAGE_BYTES}), headers TEXT, lane TEXT, sent REAL, due REAL,
    attempt INTEGER DEFAULT 1, deliveries INTEGER DEFAULT 0, lease INTEGER DEFAULT 0, holder TEXT);
CREATE INDEX IF NOT EXISTS waiting ON messages (place, due);
CREATE INDEX IF NOT EXISTS lanes ON messages (place, lane, id);
"""  # `due`: when it may be delivered; while it is leased, when the lease ends. `attempt`: what its next delivery is.

# Only the head of a lane may come, so a lane waits for a head that is leased or delayed: order, for one clause.
READY = """
SELECT * FROM messages AS m WHERE place = :place AND due <= :now AND (lane IS NULL OR NOT EXISTS (
    SELECT 1 FROM messages AS e WHERE e.place = m.place AND e.lane = m.lane AND e.id < m.id)) ORDER BY id LIMIT :limit
"""
LEASE_OUT = """
UPDATE messages SET due = :due, holder = :holder, lease = lease + 1, deliveries = deliveries + 1, attempt = attempt + 1
WHERE id = :id
"""  # `attempt` is raised here and not when it fails: a crash is an attempt too
INSERT = """
INSERT INTO messages (place, body, headers, lane, sent, due)
SELECT name, :body, :headers, CASE WHEN ordered THEN :key END, :now, :now + :delay FROM places
"""


@dataclass(frozen=True)
class Options:
    """What follows the `?`. Seconds: how long a delivery is ours, and how often an idle receiver looks."""

    lease: float = 30.0
    poll: float = 0.05


class Token(NamedTuple):
    """A row, and which of its leases this is: an older one settles nothing."""

    id: int
    lease: int


class Database:
    """The file, and the one place where SQLite's errors become ours."""

    def __init__(self, url: str) -> None:
        self._path = unquote(urlsplit(url).path)
        self.connection: sqlite3.Connection | None = None

    @property
    def is_open(self) -> bool:
        return self.connection is not None

    def open(self) -> None:
        """Look at the file itself: a connection that was never used proves nothing."""
        self.close()
        try:
            with self._errors():
                self.connection = sqlite3.connect(self._path, timeout=0.1, isolation_level=None)
                self.connection.row_factory = sqlite3.Row
                self.connection.executescript(f"PRAGMA foreign_keys = ON; PRAGMA journal_mode = WAL; {SCHEMA}")
        except BusError:
            self.close()
            raise

    def close(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    def run(self, statement: str, **values: Any) -> sqlite3.Cursor:
        if self.connection is None:
            raise Disconnected("sqlite: not connected")
        with self._errors():
            return self.connection.execute(statement, values)

    def rows(self, statement: str, **values: Any) -> list[sqlite3.Row]:
        return self.run(statement, **values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; it has the file for itself from the beginning, so nothing read in it changes."""
        self.run("BEGIN IMMEDIATE")
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            if self.connection is not None and self.connection.in_transaction:
                self.connection.rollback()
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """By what would help: nothing, waiting, a new connection."""
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.DataError) as error:
            raise Refused(f"sqlite: {error}") from error
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            raise (Throttled if busy else Disconnected)(f"sqlite: {error}") from error
        except sqlite3.ProgrammingError as error:  # closed under our feet
            self.connection = None
            raise Disconnected(f"sqlite: {error}") from error
        except sqlite3.DatabaseError as error:  # no database, or a damaged one
            raise Refused(f"sqlite: {error}") from error


class SqliteBroker:
    """The data plane."""

    def __init__(self, url: str, *, clock: Clock) -> None:
        self.options = options_of(url, Options(), {}, {"lease": 0.001, "poll": 0.001})
        self.database = Database(url)
        self.clock = clock
        self.admin = SqliteAdmin(self.database, clock)

    async def connect(self) -> None:
        self.database.open()

    async def close(self) -> None:
        self.database.close()

    def capabilities(self, source: Source | None = None) -> Capabilities:
        """The lease of a source is the one in force: another process may have declared the queue."""
        lease = self.options.lease
        if source is not None and self.database.is_open:
            found = self.database.rows("SELECT lease FROM places WHERE name = :name", name=name_of(source.address))
            lease = (found and found[0]["lease"]) or lease
        return Capabilities(
            send_batch=100, send_order="connection", send_delay=30 * 86400.0, message_bytes=MESSAGE_BYTES, binary=True,
            receive_batch=100, order="key", lease=lease, lease_extends=True, counts_deliveries=True,
            release_counts=False, settle_batch=100, settle_linger=0.001, confirms_settlement=True,
            retry_delay=30 * 86400.0, retry_resolution=self.options.poll, retry_keeps_order=True, dead_letters=True,
            fanout=True, queues=True, reply=True,
        )  # fmt: skip

    def status(self) -> Status:
        connected = self.database.is_open
        return Status(connected, reason="" if connected else "not connected")

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Receipt | BusError]:
        """One transaction. A statement that fails undoes itself alone, so the other entries are stored."""
        try:
            with self.database.transaction():
                return [self._store(out) for out in batch]
        except Throttled as error:  # nothing was stored
            return [error] * len(batch)

    def _store(self, out: Outgoing) -> Receipt | BusError:
        kind, name, group = out.address
        where = "WHERE topic = :to" if kind == "topic" and not group else "WHERE name = :to"
        to = name if kind == "topic" and not group else name_of(out.address)
        values = {"body": out.body, "headers": json.dumps(out.headers), "key": out.key, "delay": out.delay}
        try:
            stored = self.database.run(f"{INSERT} {where}", to=to, now=self.clock.time(), **values).rowcount
        except Refused as error:
            return error
        if stored or kind == "reply":  # a requester that is gone is no error of the responder
            return Receipt(out.id)
        known = kind == "topic" and not group and self.database.rows("SELECT 1 FROM topics WHERE name = :to", to=to)
        if known and not out.mandatory:
            return Receipt(out.id, unrouted=True)
        return Refused(f"{out.address}: {'nobody subscribes to it' if known else 'it is not there'}")

    @asynccontextmanager
    async def receiver(self, source: Source, *, prefetch: int) -> AsyncIterator[SqliteReceiver]:
        """A reply inbox is made here and gone at the exit, with what is in it."""
        inbox = Source("reply", uuid.uuid4().hex) if source.kind == "reply" else None
        if inbox is not None:
            self.admin.make(inbox)
        receiver = SqliteReceiver(self, inbox or source, source, prefetch)
        try:
            yield receiver
        finally:
            receiver.close()


class SqliteReceiver:
    """A competing consumer of one place."""

    def __init__(self, broker: SqliteBroker, own: Source, source: Source, prefetch: int) -> None:
        self.address = own.name if own.kind == "reply" else ""
        self.place = name_of(own.address)
        self._database, self._clock, self._poll = broker.database, broker.clock, broker.options.poll
        self._source, self._prefetch = source, prefetch
        self._holder = uuid.uuid4().hex
        self._stopped = self._closed = False
        self._waiting: asyncio.Future[None] | None = None
        found = self._database.rows("SELECT * FROM places WHERE name = :place", place=self.place)
        if not found:
            raise Refused(f"{source} is not there")
        self._most: int | None = found[0]["max_deliveries"]
        self._lease: float = found[0]["lease"] or broker.options.lease

    async def receive(self, limit: int, wait: float) -> Sequence[Delivery]:
        """Cancelled in the only await, it has taken nothing yet."""
        give_up = self._clock.now() + wait
        while True:
            if self._closed:
                raise ReceiverClosed(f"{self._source}: closed")
            batch = [] if self._stopped else self._take(limit)
            left = give_up - self._clock.now()
            if batch or left <= 0 or self._stopped:
                return batch
            await self._pause(min(left, self._poll))

    async def _pause(self, seconds: float) -> None:
        self._waiting = asyncio.get_running_loop().create_future()
        timer = self._clock.call_later(seconds, self._wake)
        try:
            await self._waiting
        finally:
            timer.cancel()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _take(self, limit: int) -> list[Delivery]:
        now = self._clock.time()
        if not self._database.rows(READY, place=self.place, now=now, limit=1):  # whoever is idle locks nobody out
            return []
        with self._database.transaction():
            # What is in hand is counted by leases, not by settlements: nobody settles a delivery whose lease is lost.
            held = "SELECT count(*) FROM messages WHERE place = :place AND holder = :holder AND due > :now"
            (in_hand,) = self._database.rows(held, place=self.place, holder=self._holder, now=now)[0]
            room = max(0, min(limit, self._prefetch - in_hand))
            rows = self._database.rows(READY, place=self.place, now=now, limit=room)
            spent = [row for row in rows if self._most is not None and row["deliveries"] >= self._most]
            for row in spent:
                reason = f"delivered {row['deliveries']} times without being settled"
                self._bury(row["id"], json.loads(row["headers"]) | {h.DEAD_REASON: reason})
            fresh = [row for row in rows if row not in spent]
            for row in fresh:
                self._database.run(LEASE_OUT, due=now + self._lease, holder=self._holder, id=row["id"])
        return [self._delivery(row) for row in fresh]

    def _delivery(self, row: sqlite3.Row) -> Delivery:
        return Delivery(
            row["body"], self._source, json.loads(row["headers"]), Token(row["id"], row["lease"] + 1),
            row["attempt"], row["deliveries"] + 1, row["lane"], row["sent"], raw=row,
        )  # fmt: skip

    async def settle(self, batch: Sequence[Settlement]) -> Sequence[BusError | None]:
        try:
            with self._database.transaction():
                return [self._settle(settlement) for settlement in batch]
        except Throttled as error:  # nothing was settled
            return [error] * len(batch)

    def _settle(self, settlement: Settlement) -> BusError | None:
        delivery, act, run = settlement.delivery, settlement.act, self._database.run
        if not self._is_ours(delivery):
            return LeaseLost(f"{self._source}: the lease ran out")
        row = {"id": delivery.token.id}
        # The raw headers: the core opens a delivery in place, and a copy must be able to be opened again.
        headers = json.loads(delivery.raw["headers"]) | dict(settlement.headers or {})
        if act is Act.ACK:
            run("DELETE FROM messages WHERE id = :id", **row)
        elif act is Act.DEAD:
            self._bury(delivery.token.id, headers)
        elif act is Act.RELEASE:  # as if it had never come
            run(
                "UPDATE messages SET holder = NULL, due = 0, attempt = :attempt, deliveries = deliveries - 1"
                " WHERE id = :id",
                attempt=delivery.attempt, **row,
            )  # fmt: skip
        else:
            run(
                "UPDATE messages SET holder = NULL, due = :due, attempt = :attempt, headers = :headers WHERE id = :id",
                due=self._clock.time() + settlement.delay, attempt=delivery.attempt + 1,
                headers=json.dumps(headers), **row,
            )  # fmt: skip
        return None

    def _bury(self, row_id: int, headers: dict[str, str]) -> None:
        headers.setdefault(h.ORIGIN, self.place)
        self._database.run(
            "UPDATE messages SET place = :dead, headers = :headers, holder = NULL, due = 0, lane = NULL, attempt = 1,"
            " deliveries = 0 WHERE id = :id",
            dead=dead_of(self.place), headers=json.dumps(headers), id=row_id,
        )  # fmt: skip

    def _is_ours(self, delivery: Delivery) -> bool:
        wanted = {"now": self._clock.time(), "holder": self._holder, **delivery.token._asdict()}
        mine = "SELECT 1 FROM messages WHERE id = :id AND lease = :lease AND holder = :holder AND due > :now"
        return not self._closed and bool(self._database.rows(mine, **wanted))

    async def extend(self, batch: Sequence[Delivery], seconds: float) -> Sequence[BusError | None]:
        results: list[BusError | None] = []
        for delivery in batch:
            if self._is_ours(delivery):
                due = self._clock.time() + seconds
                self._database.run("UPDATE messages SET due = :due WHERE id = :id", due=due, id=delivery.token.id)
                results.append(None)
            else:
                results.append(LeaseLost(f"{self._source}: the lease ran out"))
        return results

    async def stop(self) -> None:
        self._stopped = True
        self._wake()

    def close(self) -> None:
        """What it held comes again at once; where nothing can be said any more, when the leases end."""
        self._closed = True
        self._wake()
        mine = {"place": self.place, "holder": self._holder}
        with suppress(BusError):
            self._database.run(
                "UPDATE messages SET due = 0, holder = NULL WHERE place = :place AND holder = :holder", **mine
            )
            if self.address:
                self._database.run("DELETE FROM places WHERE name = :place", place=self.place)


class SqliteAdmin:
    """Topology and operations."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def ensure(self, topology: Sequence[Part], mode: Mode) -> Sequence[Difference]:
        if mode == "trust":
            return []
        missing = [part for part in topology if not self._is_there(part)]
        if mode == "create":
            for part in topology:
                self._ensure(part)
        return [Difference(_title(part), "there", "missing", made=mode == "create") for part in missing]

    def _is_there(self, part: Part) -> bool:
        if isinstance(part, TopicSpec):
            return bool(self._database.rows("SELECT 1 FROM topics WHERE name = :name", name=part.name))
        name, topic = name_of(part.source.address), part.topic if isinstance(part, Binding) else None
        found = self._database.rows("SELECT topic FROM places WHERE name = :name", name=name)
        return bool(found) and topic in (None, found[0]["topic"])

    def _ensure(self, part: Part) -> None:
        run = self._database.run
        if isinstance(part, TopicSpec):
            run("INSERT OR IGNORE INTO topics VALUES (:name)", name=part.name)
        elif isinstance(part, Binding):
            run(
                "UPDATE places SET topic = :topic WHERE name = :name",
                topic=part.topic, name=name_of(part.source.address),
            )  # fmt: skip
        else:
            self.make(part.source, part)

    def make(self, source: Source, spec: QueueSpec | None = None) -> None:
        """The queue and its dead-letter queue; one that is there keeps its lease, unless another is asked for."""
        name, values = name_of(source.address), {"lease": spec and spec.lease, "most": spec and spec.max_deliveries}
        self._database.run(
            "INSERT INTO places VALUES (:name, NULL, :ordered, :lease, :most) ON CONFLICT (name) DO UPDATE SET"
            " lease = coalesce(:lease, lease), max_deliveries = coalesce(:most, max_deliveries)",
            name=name, ordered=source.ordered, **values,
        )  # fmt: skip
        if spec is not None:
            self._database.run("INSERT OR IGNORE INTO places (name) VALUES (:name)", name=dead_of(name))

    async def dead_letters(self, source: Source) -> Source | None:
        return Source("queue", dead_of(name_of(source.address)))

    async def purge(self, source: Source) -> int:
        values = {"place": name_of(source.address), "now": self._clock.time()}
        waiting = "DELETE FROM messages WHERE place = :place AND (holder IS NULL OR due <= :now)"
        return self._database.run(waiting, **values).rowcount

    async def backlog(self, source: Source) -> Backlog | None:
        name, now = name_of(source.address), self._clock.time()
        if not self._database.rows("SELECT 1 FROM places WHERE name = :name", name=name):
            return None
        held = "(holder IS NOT NULL AND due > :now)"
        counts = f"SELECT count(*), total({held}), min(CASE WHEN NOT {held} THEN sent END) FROM messages"
        count, in_flight, oldest = self._database.rows(f"{counts} WHERE place = :name", name=name, now=now)[0]
        return Backlog(count - int(in_flight), int(in_flight), None if oldest is None else max(0.0, now - oldest))

    async def seek(self, source: Source, start: Start) -> None:
        raise Refused(f"{source}: what was acknowledged is gone, there is no replay")


def name_of(address: Address) -> str:
    """Names have no slash; the name of a dead-letter queue, which is ours, has some."""
    if address.kind == "queue" and address.name.endswith("/dead"):
        return address.name
    return "/".join(part for part in address if part)


def dead_of(place: str) -> str:
    return f"{place}/dead"


def _title(part: Part) -> str:
    return f"topic {part.name}" if isinstance(part, TopicSpec) else f"{type(part).__name__} {part.source}"


@dataclass
class Job:
    number: int


async def main() -> None:
    """Two buses, as two processes would have them."""
    register("sqlite", SqliteBroker)  # an installed package names it as an entry point instead
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(url=f"sqlite://{folder}/bus.db")
        sender, worker, jobs, done = Bus(settings=settings), Bus(settings=settings), Queue("jobs", Job), asyncio.Event()

        @worker.consumer(jobs, retry=Retry(attempts=2, first_delay=0.1))
        async def work(message: Message[Job]) -> None:
            print(f"job {message.payload.number}, attempt {message.attempt}")
            if message.attempt == 1:
                raise ValueError("not yet")
            done.set()

        async with worker.consuming(), sender:
            await sender.send(jobs, Job(1))
            await done.wait()


if __name__ == "__main__":
    logging.getLogger("msgbus").setLevel(logging.ERROR)  # the failure above is on purpose
    asyncio.run(main())
