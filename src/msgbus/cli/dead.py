"""`msgbus dead`: look at dead letters, send them back, throw them away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import typer

from msgbus.bus import Bus
from msgbus.cli.load import load_bus
from msgbus.cli.output import add_row, headers_as_text, note, progress_bar, say, say_json, show, table_of
from msgbus.cli.probe import connected
from msgbus.dead import DeadLetter, DeadLetters, Redriven
from msgbus.errors import BusError

T = TypeVar("T")

commands = typer.Typer(help="Look at dead letters, send them back, throw them away.", no_args_is_help=True)

BusArgument = Annotated[str, typer.Argument(metavar="MODULE:BUS", help="The bus, for example shop.app:bus.")]
SourceArgument = Annotated[str, typer.Argument(help="TOPIC/GROUP such as orders/billing, or a queue, or a call.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


@dataclass(frozen=True, slots=True)
class _Where:
    bus: Bus
    source: str

    @asynccontextmanager
    async def letters(self) -> AsyncIterator[DeadLetters]:
        async with connected(self.bus, self.source.partition("/")[0], "dead"):
            yield DeadLetters(self.bus, self.source)

    def do(self, action: Callable[[DeadLetters], Coroutine[Any, Any, T]]) -> T:
        async def run() -> T:
            async with self.letters() as letters:
                return await action(letters)

        return asyncio.run(run())


@commands.command("list")
def list_(
    bus: BusArgument,
    source: SourceArgument,
    limit: Annotated[int, typer.Option(min=1, help="How many to look at.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List dead letters. They stay where they are."""
    letters, count = _Where(load_bus(bus), source).do(lambda dead: _look(dead, limit))
    if as_json:
        say_json([as_data(letter) for letter in letters])
        return
    table = table_of("id", "type", "died of", "attempts", "first failed", "bytes")
    for letter in letters:
        attempts = "" if letter.attempts is None else str(letter.attempts)
        cells = (letter.id, letter.headers.get("ce-type", ""), _cause(letter), attempts)
        add_row(table, *cells, _time(letter.first_failed), f"{len(letter.body):,}")
    show(table)
    note(f"{len(letters)} of {'an unknown number' if count is None else max(count, len(letters))}")


@commands.command("show")
def show_(bus: BusArgument, source: SourceArgument, letter_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Show the headers and the body of one. It stays where it is."""
    letter = _Where(load_bus(bus), source).do(lambda dead: dead.find(letter_id))
    if letter is None:
        raise BusError(f"{source}: no dead letter has the id {letter_id!r}")
    say(headers_as_text(letter.headers))
    if letter.damaged:
        note(f"the envelope can't be opened: {letter.damaged}")
    say("\n" + body_as_text(letter.body))


@commands.command()
def redrive(
    bus: BusArgument,
    source: SourceArgument,
    letter_id: Annotated[list[str] | None, typer.Option("--id", help="Only this one; may be repeated.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    as_json: AsJson = False,
) -> None:
    """Send dead letters back to the subscription they came from. May be interrupted: nothing is lost."""
    where = _Where(load_bus(bus), source)
    try:
        result = where.do(lambda dead: _redrive(dead, letter_id, limit))
    except KeyboardInterrupt:
        note("interrupted: what was not sent back is where it was, run it again to go on")
        raise typer.Exit(130) from None
    if as_json:
        say_json(_result(result))
    else:
        _tell(result)
    if result.failed or result.doubled or result.missing:
        raise typer.Exit(1)


@commands.command()
def purge(
    bus: BusArgument,
    source: SourceArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Throw all dead letters of a subscription away, for good."""
    where = _Where(load_bus(bus), source)
    count = where.do(lambda dead: dead.count())
    if not yes:
        number = "all" if count is None else f"about {count:,}"
        typer.confirm(f"Throw away {number} dead letters of {source}?", abort=True, err=True)
    say(f"{where.do(lambda dead: dead.purge()):,} thrown away")


async def _look(dead: DeadLetters, limit: int) -> tuple[Sequence[DeadLetter], int | None]:
    count = await dead.count()
    return await dead.peek(limit), count


async def _redrive(dead: DeadLetters, ids: Sequence[str] | None, limit: int | None) -> Redriven:
    total = len(ids) if ids else await dead.count()
    with progress_bar() as bar:
        task = bar.add_task("sending back", total=min(total, limit) if total and limit else total or limit)
        result = await dead.redrive(
            ids=ids or None, limit=limit, progress=lambda moved: bar.update(task, completed=moved)
        )
    gone = result.moved + len(result.failed) + len(result.doubled)
    unseen = 0 if limit is None or ids or total is None else total - gone  # a limit ends it before all were seen
    return replace(result, left=max(result.left, unseen))


def _result(result: Redriven) -> dict[str, Any]:
    return {
        "moved": result.moved,
        "left": result.left,
        "doubled": list(result.doubled),
        "missing": list(result.missing),
        "failed": [{"id": failure.id, "error": str(failure.error)} for failure in result.failed],
    }


def _tell(result: Redriven) -> None:
    say(f"{result.moved:,} sent back" + (f", {result.left:,} left" if result.left else ""))
    for failure in result.failed:
        note(f"{failure.id or 'a letter without an id'} stays: {failure.error}")
    for letter_id in result.doubled:
        note(f"{letter_id or 'a letter without an id'} was sent back and could not be removed: it is there twice")
    for letter_id in result.missing:
        note(f"{letter_id} is not there")


def as_data(letter: DeadLetter) -> dict[str, Any]:
    """A letter as JSON: its body as text, or as hex where it is none."""
    try:
        body: dict[str, str] = {"body": letter.body.decode()}
    except UnicodeDecodeError:
        body = {"body_hex": letter.body.hex()}
    return {"id": letter.id, "headers": dict(letter.headers), **body}


def body_as_text(body: bytes) -> str:
    """JSON indented, other text as it is, everything else as hex."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return _hex(body)
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text if all(c.isprintable() or c in "\t\r\n" for c in text) else _hex(body)


def _hex(body: bytes) -> str:
    lines = []
    for start in range(0, len(body), 16):
        part = body[start : start + 16]
        seen = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):<47}  {seen}")
    return "\n".join(lines)


def _cause(letter: DeadLetter) -> str:
    kind = letter.error_type
    return letter.damaged or (f"{kind}: {letter.reason}" if kind else letter.reason)


def _time(unix: float | None) -> str:
    return "" if unix is None else datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
