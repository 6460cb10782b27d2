"""A whole broker of a third party: queues and topics in one SQLite file, shared by the processes of one machine.

`sqlite:///PATH[?lease=30&poll=0.05]`. docs/how-to/write-a-broker.md walks through it, and the shared suite runs on it
(tests/conformance/example). Nothing but the standard library is needed.

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
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from msgbus import Bus, Message, Queue, Retry
from msgbus import headers as h
from msgbus.broker import Backlog, Binding, Capabilities, Difference, Mode, Part, QueueSpec, Status, TopicSpec
from msgbus.brokers import register
from msgbus.brokers.urls import options_of
from msgbus.clock import Clock
from msgbus.config import Settings
from msgbus.errors import BusError, DecodeError, Disconnected, LeaseLost, ReceiverClosed, Refused, Throttled
from msgbus.message import Act, Address, Delivery, Outgoing, Receipt, Settlement, Source, Start

Entry = TypeVar("Entry")
Result = TypeVar("Result")

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
INSERT = """
INSERT INTO messages (place, body, headers, lane, sent, due)
SELECT name, :body, :headers, CASE WHEN ordered THEN :key END, :now, :now + :delay FROM places
"""


@dataclass(frozen=True)
class Options:
    """What follows the `?`. Seconds: how long a delivery is ours, and how often an idle receiver looks."""

    lease: float = 30.0
    poll: float = 0.05


class Database:
    """The file, and the one place where SQLite's errors become ours."""

    def __init__(self, url: str) -> None:
        self._path = unquote(urlsplit(url).path)
        self.connection: sqlite3.Connection | None = None

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

    def update(self, row: int, **values: Any) -> None:
        changes = ", ".join(f"{name} = :{name}" for name in values)
        self.run(f"UPDATE messages SET {changes} WHERE id = :id", id=row, **values)

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

    def each(self, work: Callable[[Entry], Result], batch: Sequence[Entry]) -> Sequence[Result | BusError]:
        """One transaction, one result per entry. A statement that fails undoes itself alone."""
        try:
            with self.transaction():
                return [work(entry) for entry in batch]
        except Throttled as error:  # nothing was done
            return [error] * len(batch)

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
        self.options = options_of(url, Options(), {"lease": 0.001, "poll": 0.001})
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
        if source is not None and self.database.connection is not None:
            found = self.database.rows("SELECT lease FROM places WHERE name = :name", name=name_of(source.address))
            lease = found[0]["lease"] or lease if found else lease
        return Capabilities(
            send_batch=100, send_order="connection", send_delay=30 * 86400.0, message_bytes=MESSAGE_BYTES, binary=True,
            receive_batch=100, order="key", lease=lease, lease_extends=True, counts_deliveries=True,
            release_counts=False, settle_batch=100, settle_linger=0.001, confirms_settlement=True,
            retry_delay=30 * 86400.0, retry_resolution=self.options.poll, retry_keeps_order=True, dead_letters=True,
            fanout=True, queues=True, reply=True, backlog="all",
        )  # fmt: skip

    def status(self) -> Status:
        return Status(True) if self.database.connection is not None else Status(False, reason="not connected")

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Receipt | BusError]:
        return self.database.each(self._store, batch)

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
            self.admin.make(inbox, QueueSpec(inbox))
        receiver = SqliteReceiver(self, inbox or source, source, prefetch)
        try:
            yield receiver
        finally:
            receiver.close()


def headers_of(row: sqlite3.Row) -> tuple[dict[str, str], DecodeError | None]:
    """What another program wrote there may be anything: then as text, and what is wrong with it."""
    try:
        headers = json.loads(row["headers"])
        if isinstance(headers, dict) and all(isinstance(value, str) for value in headers.values()):
            return headers, None
        reason = "no object of texts"
    except (TypeError, ValueError, RecursionError) as error:
        reason = f"no JSON ({type(error).__name__})"
    text = str(row["headers"])
    return {"unreadable": text}, DecodeError(f"the column headers holds {reason}: {text!a:.200}")


class SqliteReceiver:
    """A competing consumer of one place."""

    def __init__(self, broker: SqliteBroker, own: Source, source: Source, prefetch: int) -> None:
        self.address = own.name if own.kind == "reply" else ""
        self.place = name_of(own.address)
        self._database, self._clock, self._poll = broker.database, broker.clock, broker.options.poll
        self._source, self._prefetch = source, prefetch
        self._holder = uuid.uuid4().hex
        self._stopped = self._closed = False
        self._bell = asyncio.Event()
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
        self._bell.clear()
        timer = self._clock.call_later(seconds, self._bell.set)
        try:
            await self._bell.wait()
        finally:
            timer.cancel()

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
                self._bury(row["id"], headers_of(row)[0] | {h.DEAD_REASON: reason})
            fresh = [row for row in rows if row not in spent]
            for row in fresh:
                counts = {name: row[name] + 1 for name in ("lease", "deliveries", "attempt")}  # a crash is an attempt
                self._database.update(row["id"], due=now + self._lease, holder=self._holder, **counts)
        return [self._delivery(row) for row in fresh]

    def _delivery(self, row: sqlite3.Row) -> Delivery:
        """What can't be read is handed in too, with its fault: the core buries it, and its neighbours are handled."""
        attempt, deliveries, lane, sent = row["attempt"], row["deliveries"] + 1, row["lane"], row["sent"]
        headers, fault = headers_of(row)
        body = row["body"] if isinstance(row["body"], bytes) else str(row["body"]).encode()
        return Delivery(body, self._source, headers, row, attempt, deliveries, lane, sent, row, fault=fault)

    async def settle(self, batch: Sequence[Settlement]) -> Sequence[BusError | None]:
        return self._database.each(self._settle, batch)

    def _settle(self, settlement: Settlement) -> BusError | None:
        delivery, act, row = settlement.delivery, settlement.act, settlement.delivery.token["id"]
        if not self._is_ours(delivery):
            return LeaseLost(f"{self._source}: the lease ran out")
        # From the raw headers: the core opens a delivery in place, and what comes again must be opened again.
        headers = headers_of(delivery.token)[0] | dict(settlement.headers or {})
        update = partial(self._database.update, row, holder=None)
        if act is Act.ACK:
            self._database.run("DELETE FROM messages WHERE id = :id", id=row)
        elif act is Act.DEAD:
            self._bury(row, headers)
        elif act is Act.RELEASE:  # as if it had never come
            update(due=0, attempt=delivery.attempt, deliveries=delivery.deliveries - 1)
        else:
            due = self._clock.time() + settlement.delay
            update(due=due, attempt=delivery.attempt + 1, headers=json.dumps(headers))
        return None

    def _bury(self, row: int, headers: dict[str, str]) -> None:
        headers.setdefault(h.ORIGIN, self.place)
        fresh = {"holder": None, "due": 0, "lane": None, "attempt": 1, "deliveries": 0}
        self._database.update(row, place=dead_of(self.place), headers=json.dumps(headers), **fresh)

    def _is_ours(self, delivery: Delivery) -> bool:
        """Whether this lease of the row is still on, and this receiver's: an older one settles nothing."""
        mine = "SELECT 1 FROM messages WHERE id = :id AND lease = :lease AND holder = :holder AND due > :now"
        lease = {"id": delivery.token["id"], "lease": delivery.token["lease"] + 1, "holder": self._holder}
        return not self._closed and bool(self._database.rows(mine, now=self._clock.time(), **lease))

    async def extend(self, batch: Sequence[Delivery], seconds: float) -> Sequence[BusError | None]:
        return self._database.each(lambda delivery: self._extend(delivery, self._clock.time() + seconds), batch)

    def _extend(self, delivery: Delivery, due: float) -> BusError | None:
        if not self._is_ours(delivery):
            return LeaseLost(f"{self._source}: the lease ran out")
        self._database.update(delivery.token["id"], due=due)
        return None

    async def stop(self) -> None:
        self._stopped = True
        self._bell.set()

    def close(self) -> None:
        """What it held comes again at once; where nothing can be said any more, when the leases end."""
        self._closed = True
        self._bell.set()
        with suppress(BusError):
            self._database.run("UPDATE messages SET due = 0, holder = NULL WHERE holder = :me", me=self._holder)
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
        return [Difference(str(part), "there", "missing", made=mode == "create") for part in missing]

    def _is_there(self, part: Part) -> bool:
        if isinstance(part, TopicSpec):
            return bool(self._database.rows("SELECT 1 FROM topics WHERE name = :name", name=part.name))
        name, topic = name_of(part.source.address), part.topic if isinstance(part, Binding) else None
        found = self._database.rows("SELECT topic FROM places WHERE name = :name", name=name)
        return bool(found) and topic in (None, found[0]["topic"])

    def _ensure(self, part: Part) -> None:
        if isinstance(part, TopicSpec):
            self._database.run("INSERT OR IGNORE INTO topics VALUES (:name)", name=part.name)
        elif isinstance(part, QueueSpec):
            self.make(part.source, part)
        else:
            name = name_of(part.source.address)
            self._database.run("UPDATE places SET topic = :topic WHERE name = :name", topic=part.topic, name=name)

    def make(self, source: Source, spec: QueueSpec) -> None:
        """The queue and its dead-letter queue; one that is there keeps its lease, unless another is asked for."""
        name, insert = name_of(source.address), "INSERT OR IGNORE INTO places (name, ordered) VALUES (:name, :ordered)"
        self._database.run(insert, name=name, ordered=source.ordered)
        if source.kind != "reply":
            self._database.run(insert, name=dead_of(name), ordered=False)
        change = "UPDATE places SET lease = coalesce(:lease, lease), max_deliveries = :most WHERE name = :name"
        self._database.run(change, name=name, lease=spec.lease, most=spec.max_deliveries)

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


async def main() -> None:
    register("sqlite", SqliteBroker)  # an installed package names it as an entry point instead
    with tempfile.TemporaryDirectory() as folder:
        bus, jobs = Bus(settings=Settings(url=f"sqlite://{folder}/bus.db")), Queue("jobs", int)
        done = asyncio.Event()

        @bus.consumer(jobs, retry=Retry(attempts=2, first_delay=0.1))
        async def work(message: Message[int]) -> None:
            print(f"job {message.payload}, attempt {message.attempt}")
            if message.attempt == 1:
                raise ValueError("not yet")
            done.set()

        async with bus.consuming():
            await bus.send(jobs, 7)
            await done.wait()


if __name__ == "__main__":
    logging.getLogger("msgbus").setLevel(logging.ERROR)  # the failure above is on purpose
    asyncio.run(main())
