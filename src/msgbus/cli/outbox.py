"""`msgbus outbox`: its tables, its relay, and what is dead in it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from msgbus.bus import Bus
from msgbus.cli.health import Place, serving
from msgbus.cli.load import load_bus
from msgbus.cli.logs import Level, set_up
from msgbus.cli.output import add_row, note, progress_bar, say, say_json, show, table_of
from msgbus.cli.probe import all_connected
from msgbus.consuming.health import Health
from msgbus.errors import ConfigError
from msgbus.outbox import Relay, script

commands = typer.Typer(help="The outbox of a database: its tables, its relay, its dead.", no_args_is_help=True)

_CHUNK = 500
_MIGRATION = '''"""The tables of msgbus's outbox."""

from alembic import op

revision = "msgbus_outbox_1"
down_revision = None  # set it to your latest revision
branch_labels = None
depends_on = None


def upgrade() -> None:
{ups}


def downgrade() -> None:
{downs}
'''
_TABLES = ("msgbus_outbox", "msgbus_outbox_dead", "msgbus_outbox_part", "msgbus_outbox_relay", "msgbus_outbox_version")

Database = Annotated[
    str,
    typer.Option(envvar="DATABASE_URL", help="postgresql://USER@HOST/NAME or sqlite:///FILE, better by DATABASE_URL."),
]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Of messages, as `dead` shows them.")]
Every = Annotated[bool, typer.Option("--all", help="All that are dead.")]


@commands.command("schema")
def schema(
    dialect: Annotated[str, typer.Option(help="postgresql or sqlite.")] = "postgresql",
    alembic: Annotated[bool, typer.Option("--alembic", help="As a migration of Alembic.")] = False,
) -> None:
    """Print what makes the tables."""
    if dialect == "postgresql":
        text = script("postgresql")
    elif dialect == "sqlite":
        text = script("sqlite")
    else:
        raise ConfigError(f"--dialect {dialect}: postgresql or sqlite")
    say((_migration(text) if alembic else text).rstrip())


def _migration(text: str) -> str:
    ups = [f'    op.execute("""{statement}""")' for statement in text.rstrip().removesuffix(";").split(";\n")]
    downs = [f'    op.execute("DROP TABLE {name}")' for name in _TABLES]
    return _MIGRATION.format(ups="\n".join(ups), downs="\n".join(downs))


@commands.command("relay")
def relay(
    bus: Annotated[str, typer.Argument(metavar="MODULE:BUS", help="The bus, for example shop.app:bus.")],
    database: Database,
    batch: Annotated[int, typer.Option(help="Rows of one read.")] = 1000,
    lease: Annotated[float, typer.Option(help="Seconds until others take over from a dead one.")] = 15.0,
    on_refused: Annotated[str, typer.Option(help="Later messages of a dead one's key: pass or hold.")] = "pass",
    json_logs: Annotated[bool, typer.Option("--json-logs", help="Log one JSON object a line.")] = False,
    health: Annotated[str, typer.Option(help="Serve /live and /ready on PORT, HOST:PORT or unix:PATH.")] = "",
) -> None:
    """Send what transactions have published, until stopped; several may run."""
    choice: Any = on_refused
    place = Place.parse(health) if health else None
    sent = asyncio.run(_relay(load_bus(bus), database, place, json_logs, batch=batch, lease=lease, on_refused=choice))
    note(f"{sent:,} messages sent")


@commands.command("status")
def status(database: Database, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Show how many messages wait and for how long, what is dead, and who relays. Exits with 1 where nobody does."""
    found = asyncio.run(_with(database, lambda store: store.status()))
    if as_json:
        say_json(asdict(found))
    else:
        table = table_of("waiting", "oldest", "dead", "relays", "partitions without one")
        oldest = "" if found.oldest is None else f"{found.oldest:.1f} s"
        relays = ", ".join(f"{owner} ({parts})" for owner, parts in sorted(found.relays.items())) or "nobody"
        add_row(table, f"{found.waiting:,}", oldest, f"{found.dead:,}", relays, str(found.unowned))
        show(table)
    if not found.relays:
        note("no relay runs: nothing is sent")
        raise typer.Exit(1)


@commands.command("dead")
def dead(
    database: Database,
    limit: Annotated[int, typer.Option(min=1, help="So many at most.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List messages that their broker refused."""
    found = asyncio.run(_with(database, lambda store: store.dead(limit)))
    if as_json:
        say_json([asdict(each) for each in found])
        return
    table = table_of("id", "for", "key", "died", "holds its key", "reason")
    for each in found:
        died = datetime.fromtimestamp(each.died, UTC).isoformat(timespec="seconds")
        add_row(table, each.id, each.place, each.key or "", died, "yes" if each.holds else "", each.reason)
    show(table)


@commands.command("retry")
def retry(database: Database, ids: Ids = None, every: Every = False) -> None:
    """Send dead messages again, each at its old place in its key's order where that has waited."""
    chosen = _chosen(ids, every=every)
    count = asyncio.run(_with(database, lambda store: _each(store, chosen, store.retry)))
    say(f"{count:,} messages wait to be sent again")


@commands.command("purge")
def purge(
    database: Database,
    ids: Ids = None,
    every: Every = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Throw dead messages away; what waited for them goes on."""
    chosen = _chosen(ids, every=every)
    if not yes:
        typer.confirm(f"{'all' if every else len(chosen)} dead messages are thrown away. Go on?", abort=True)
    count = asyncio.run(_with(database, lambda store: _each(store, chosen, store.purge)))
    say(f"{count:,} messages thrown away")


def _chosen(ids: Sequence[str] | None, *, every: bool) -> Sequence[str]:
    if bool(ids) == every:
        raise ConfigError("name the messages by their ids, or say --all")
    return ids or ()


async def _each(store: Any, ids: Sequence[str], act: Callable[[Any], Awaitable[int]]) -> int:
    """Chunk by chunk; none twice, though it may be dead again by then."""
    count, after = 0, 0
    with progress_bar() as progress:
        task = progress.add_task("messages", total=(await store.status()).dead)
        while found := await store.dead(_CHUNK, after, ids):
            count += await act(found)
            after = found[-1].seq
            progress.advance(task, len(found))
    return count


def _store(database: str) -> Any:
    """The drivers that URLs without one mean. Raises ConfigError."""
    from msgbus.outbox.sql import SqlStore  # noqa: PLC0415 - needs an extra

    for plain, driven in (("postgres", "postgresql+asyncpg"), ("postgresql", "postgresql+asyncpg")):
        if database.startswith(f"{plain}://"):
            database = driven + database.removeprefix(plain)
    if database.startswith("sqlite://"):
        database = "sqlite+aiosqlite" + database.removeprefix("sqlite")
    return SqlStore(database)


async def _with(database: str, work: Callable[[Any], Awaitable[Any]]) -> Any:
    store = _store(database)
    try:
        await store.check()
        return await work(store)
    finally:
        await store.close()


async def _relay(bus: Bus, database: str, place: Place | None, json_logs: bool, **options: Any) -> int:
    store = _store(database)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        names = [target.name for target in bus.published]
        if not names:
            raise ConfigError("this bus declares nothing that could be relayed: bus.publishes(...) does")
        await stack.enter_async_context(all_connected(bus, names, "outbox relay"))
        set_up(as_json=json_logs, level=Level.INFO)
        runs = Relay(bus, store, **options)

        async def report() -> Health:
            health = bus.health()
            return health if runs.trouble is None else replace(health, ready=False)

        await stack.enter_async_context(serving(place, report))
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, runs.stop)
        await runs.run()
        return runs.sent
