"""Joins the example to the shared suite, as a third party joins it: nothing is patched."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import ClassVar

from examples.sqlite_broker import INSERT, MESSAGE_BYTES, Database, SqliteBroker, name_of
from tests.conformance.example.hurried import LoopClock

from msgbus.clock import Clock
from msgbus.message import Outgoing, Source
from msgbus.testing.conformance import Harness

ODD: Sequence[tuple[object, object]] = (
    (b"", "{}"),
    (b"\xff\xfe", "{}"),
    (None, "{}"),
    ("text", '{"content-type": "application/json"}'),
    (b"{}", None),
    (b"{}", "no JSON"),
    (b"{}", "[1, 2]"),
    (b"{}", '{"a": {"b": 1}}'),
    (b"{}", "[" * 100_000),
    (b"{}", b"\xff"),
)
"""Bodies and headers as another program might leave them there."""


class ExampleBroker(SqliteBroker):
    """Known to the harness, which closes its file."""

    opened: ClassVar[list[ExampleBroker]] = []

    def __init__(self, url: str, *, clock: Clock) -> None:
        super().__init__(url, clock=clock)
        self.opened.append(self)


class ExampleHarness(Harness):
    """A file of its own per test."""

    patience = 5.0
    quiet = 0.1
    lease = 0.3
    delay = 0.2
    brokers: ClassVar = {"sqlite": ExampleBroker}
    clock: Clock = LoopClock()

    def __init__(self, folder: Path) -> None:
        self._file = folder / "bus.db"
        self.url = f"sqlite://{self._file}"
        self.unreachable = f"sqlite://{folder}/no/such/folder/bus.db"
        (folder / "other").write_text("this is no database, whatever it says\n" * 100)
        self.unauthorized = f"sqlite://{folder}/other"
        ExampleBroker.opened.clear()

    async def cut(self) -> None:
        for broker in ExampleBroker.opened:
            if broker.database.connection is not None:
                broker.database.connection.close()

    def spoil(self, out: Outgoing) -> None:
        out.body = bytes(MESSAGE_BYTES + 1)

    async def put_odd(self, source: Source) -> int:
        database = Database(self.url)
        database.open()
        for body, headers in ODD:
            sql = f"{INSERT} WHERE name = :place"
            database.run(sql, place=name_of(source.address), body=body, headers=headers, key=None, now=0.0, delay=0.0)
        database.close()
        return len(ODD)

    async def places(self) -> Collection[str]:
        database = Database(self.url)
        database.open()
        names = [row["name"] for row in database.rows("SELECT name FROM places UNION SELECT name FROM topics")]
        database.close()
        return names
