"""`msgbus capabilities`: what each broker can do, generated from what the brokers say of themselves.

`markdown_table()` is the table of the README and of the reference.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from msgbus.broker import Capabilities
from msgbus.brokers import BUILT_IN, broker_for
from msgbus.cli.output import add_row, location, say, say_json, show, table_of
from msgbus.cli.probe import capabilities_of
from msgbus.clock import SystemClock
from msgbus.errors import BusError, ConfigError

UNKNOWN = "needs a connection"


@dataclass(frozen=True, slots=True)
class Row:
    """How one field of Capabilities is shown. `none`: what None means there; `unit`: s, bytes, pattern or nothing."""

    label: str
    unit: str = ""
    none: str = "-"


ROWS: Mapping[str, Row] = {
    "send_batch": Row("messages per send call"),
    "send_bytes": Row("bytes per send call", "bytes", "no limit"),
    "send_slots": Row("send calls in flight"),
    "send_order": Row("order of sends kept per"),
    "send_delay": Row("longest delayed send", "s"),
    "message_bytes": Row("largest message", "bytes", "no limit"),
    "headers": Row("native headers per message", none="enough"),
    "binary": Row("binary bodies"),
    "dedup_window": Row("deduplication window", "s"),
    "expiry": Row("expiry of messages"),
    "receive_batch": Row("messages per receive call"),
    "order": Row("order of an ordered source kept per"),
    "lease": Row("a delivery is ours for", "s", "its receiver's life"),
    "lease_extends": Row("that can be extended"),
    "lease_max": Row("at most, in all", "s", "no limit"),
    "counts_deliveries": Row("deliveries counted through crashes"),
    "isolates": Row("suspects of a crash are handed out alone"),
    "release_counts": Row("giving back unstarted counts as a delivery"),
    "settle_batch": Row("messages per settle call"),
    "settle_slots": Row("settle calls in flight"),
    "settle_linger": Row("wait to fill a settle call", "s"),
    "confirms_settlement": Row("a confirmed settlement is durable"),
    "retry_delay": Row("longest native retry delay", "s", "held in the consumer"),
    "retry_resolution": Row("a retry may be late by", "s"),
    "retry_keeps_order": Row("a retry goes to the head of its key"),
    "dead_letters": Row("dead letters can be read back"),
    "fanout": Row("topics with groups"),
    "queues": Row("queues"),
    "reply": Row("request/reply"),
    "inboxes": Row("replies go to reply inboxes alone", "pattern"),
    "replay": Row("replay"),
    "backlog": Row("what waits is counted"),
    "shared": Row("reached by several processes"),
}
"""In the order of the table. Every field of Capabilities has a row."""


def capabilities(
    urls: Annotated[list[str] | None, typer.Argument(metavar="[URL]...", help="By default every built-in.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="As a Markdown table.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    connect: Annotated[bool, typer.Option("--connect", help="Connect where only the server can tell.")] = False,
) -> None:
    """Show what brokers can do."""
    if markdown and as_json:
        raise ConfigError("--markdown or --json, not both")
    found = asyncio.run(_read(urls or built_in_urls(), connect=connect))
    if as_json:
        say_json({name: None if known is None else asdict(known) for name, known in found.items()})
    elif markdown:
        say(_as_markdown(found))
    else:
        head, *rows = _cells(found)
        table = table_of(*head)
        for row in rows:
            add_row(table, *row)
        show(table)


def markdown_table(urls: Sequence[str] = ()) -> str:
    """The capabilities of these brokers, by default of every built-in one, as a Markdown table.

    Nothing is connected to. Not to be called from within an event loop.
    """
    return _as_markdown(asyncio.run(_read(urls or built_in_urls())))


def built_in_urls() -> list[str]:
    """One URL for each built-in broker; schemes that differ in nothing but TLS are one broker."""
    first: dict[tuple[str, str], str] = {}
    for scheme, (module, name, _) in BUILT_IN.items():
        first.setdefault((module, name), f"{scheme}://")
    return list(first.values())


async def _read(urls: Sequence[str], *, connect: bool = False) -> dict[str, Capabilities | None]:
    found = {location(url): capabilities_of(url) for url in urls}
    if connect:
        for url in urls:
            if found[location(url)] is None:
                found[location(url)] = await _ask_server(url)
    return found


async def _ask_server(url: str) -> Capabilities:
    broker = broker_for(url, SystemClock())
    try:
        await broker.connect()
        return broker.capabilities()
    except BusError as error:
        raise BusError(f"{location(url)}: {error}") from error
    finally:
        await broker.close()


def _cells(found: Mapping[str, Capabilities | None]) -> list[list[str]]:
    rows = [["", *found]]
    for field, row in ROWS.items():
        rows.append([row.label, *(UNKNOWN if c is None else cell(getattr(c, field), row) for c in found.values())])
    return rows


def cell(value: object, row: Row) -> str:
    """The value of a field as it is shown."""
    if value is None:
        return row.none
    if isinstance(value, bool) or row.unit == "pattern":
        return "yes" if value else "-"
    if row.unit == "bytes" and isinstance(value, int):
        return _size(value)
    if row.unit == "s" and isinstance(value, (int, float)):
        return _duration(value)
    return f"{value:,}" if isinstance(value, int) else "-" if value == "none" else str(value)


def _size(value: int) -> str:
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value >= factor and value % factor == 0:
            return f"{value // factor:,} {unit}"
    return f"{value:,} bytes"


def _duration(value: float) -> str:
    for unit, factor in (("days", 86400), ("h", 3600), ("min", 60)):
        if value > factor and value % factor == 0:
            return f"{value / factor:g} {unit}"
    return f"{value:g} s" if value >= 1 or not value else f"{value * 1000:g} ms"


def _as_markdown(found: Mapping[str, Capabilities | None]) -> str:
    head, *rows = ([cell.replace("|", "\\|") for cell in row] for row in _cells(found))
    head[1:] = [f"`{cell}`" for cell in head[1:]]
    rule = ["---"] * len(head)
    return "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in (head, rule, *rows))
