"""`msgbus archive`: every record of a stream into S3, and back."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from msgbus.broker import Binding, Part, QueueSpec, TopicSpec
from msgbus.bus import Bus
from msgbus.cli.load import load_bus
from msgbus.cli.output import note, say
from msgbus.cli.probe import connected
from msgbus.errors import ConfigError
from msgbus.message import Address, Source, Start

commands = typer.Typer(help="Archive a stream in S3, replay from there.", no_args_is_help=True)

BusArgument = Annotated[str, typer.Argument(metavar="MODULE:BUS", help="The bus, for example shop.app:bus.")]
TopicArgument = Annotated[str, typer.Argument(metavar="TOPIC", help="A topic on Kinesis.")]
PlaceArgument = Annotated[str, typer.Argument(metavar="s3://BUCKET/PREFIX", help="Where the archive is.")]


@commands.command("write")
def write(
    bus: BusArgument,
    topic: TopicArgument,
    place: PlaceArgument,
    group: Annotated[str, typer.Option(help="The group that reads it.")] = "archive",
    window: Annotated[float, typer.Option(min=1.0, help="Seconds of one object.")] = 10.0,
    start: Annotated[str, typer.Option(help="Where a new group begins: oldest or latest.")] = "oldest",
    kind: Annotated[str, typer.Option("--format", help="jsonl (newline JSON), or avro (object containers).")] = "jsonl",
) -> None:
    """Write every record to S3 until stopped; several may run. Objects are by hour and shard."""
    if start not in ("oldest", "latest"):
        raise ConfigError(f"--start {start}: oldest or latest")
    first = Start("oldest") if start == "oldest" else Start("latest")
    count = asyncio.run(_write(load_bus(bus), topic, place, group, window, first, kind))
    note(f"{count:,} records written")


@commands.command("replay")
def replay_(
    bus: BusArgument,
    topic: TopicArgument,
    place: PlaceArgument,
    since: Annotated[str, typer.Option(help="A time such as 2026-11-24T06:00:00Z; without an offset it is UTC.")],
    into: Annotated[str, typer.Option(help="TOPIC, or TOPIC/GROUP for one group alone.")],
    until: Annotated[str, typer.Option(help="Up to this time, by default now.")] = "",
    key: Annotated[str, typer.Option(help="Only records of this partition key.")] = "",
) -> None:
    """Send archived records again, in the order of their keys."""
    end = _time("until", until) if until else datetime.now(UTC).timestamp()
    count = asyncio.run(_replay(load_bus(bus), topic, place, into, (_time("since", since), end), key or None))
    say(f"{count:,} records sent to {into}")


def _time(name: str, text: str) -> float:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"--{name} {text}: a time such as 2026-11-24T06:00:00Z") from error
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _client(bus: Bus, topic: str) -> Any:
    """An AwsClient for S3 where the stream's own AWS is."""
    from msgbus.brokers.aws import AwsClient  # noqa: PLC0415 - needs an extra
    from msgbus.brokers.kinesis.options import parse_url  # noqa: PLC0415

    url = bus.settings.routes.get(topic, bus.settings.url)
    if not url.startswith("kinesis:"):
        raise ConfigError(f"{topic} is not on Kinesis: set MSGBUS_URL or MSGBUS_ROUTES to kinesis://")
    return AwsClient(parse_url(url)[0], bus.clock)


async def _write(bus: Bus, topic: str, place: str, group: str, window: float, start: Start, kind: Any) -> int:
    from msgbus.archive import Archiver, S3Archive  # noqa: PLC0415 - needs an extra

    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(_client(bus, topic))
        store = S3Archive.of_url(client, place)
        link = await stack.enter_async_context(connected(bus, topic, "archive write"))
        name = bus.settings.prefix + topic
        source = Source("topic", name, group, start=start)
        parts: list[Part] = [TopicSpec(name), QueueSpec(source), Binding(name, source)]
        await link.broker.admin.ensure(parts, bus.settings.provision)
        archiver = Archiver(link.broker, source, store, window=window, format=kind, clock=bus.clock)
        _stop_on_signals(archiver)
        await archiver.run()
        return int(archiver.written)


def _stop_on_signals(archiver: Any) -> None:
    loop = asyncio.get_running_loop()
    stops: set[asyncio.Task[None]] = set()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: stops.add(loop.create_task(archiver.stop())))


async def _replay(bus: Bus, topic: str, place: str, into: str, span: tuple[float, float], key: str | None) -> int:
    from msgbus.archive import Resender, S3Archive, replay  # noqa: PLC0415 - needs an extra

    name, _, group = into.partition("/")
    async with _client(bus, topic) as client, connected(bus, name, "archive replay") as link:
        prefix = bus.settings.prefix
        records = replay(S3Archive.of_url(client, place), prefix + topic, since=span[0], until=span[1], key=key)
        return await Resender(link, Address("topic", prefix + name, group)).send(records)
