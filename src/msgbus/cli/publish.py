"""`msgbus publish`: one message from the command line, or many from a file or a pipe."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from msgbus.bus import Bus
from msgbus.cli.load import load, load_bus, the_bus_beside
from msgbus.cli.output import note, progress_bar, say
from msgbus.cli.payloads import Checker, Line, batches, opened
from msgbus.cli.probe import connected
from msgbus.errors import BusError, ConfigError
from msgbus.message import Receipt
from msgbus.topic import Queue, Rpc, Topic


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """What every message of a call is published with."""

    key: str | None
    headers: Mapping[str, str]
    delay: float


def publish(
    target: Annotated[str, typer.Argument(metavar="MODULE:TOPIC", help="A topic or queue, e.g. shop.topics:orders.")],
    payload: Annotated[str, typer.Argument(help="The payload; - or @FILE for one payload a line.")],
    key: Annotated[str | None, typer.Option(help="Ordering key, instead of the topic's own.")] = None,
    header: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="May be repeated.")] = None,
    delay: Annotated[float, typer.Option(min=0, help="Seconds, where the broker can.")] = 0.0,
    count: Annotated[bool, typer.Option("--count", help="Print how many were published, not their ids.")] = False,
    bus: Annotated[
        str | None, typer.Option(metavar="MODULE:BUS", help="By default the one beside the topic, else a new one.")
    ] = None,
) -> None:
    """Publish to a topic, or send to a queue. Payloads are checked against its type first."""
    topic = load(target)
    if isinstance(topic, Rpc):
        raise ConfigError(f"{target} is a call: its reply needs a program, `await bus.request(...)`")
    if not isinstance(topic, (Topic, Queue)):
        raise ConfigError(f"{target} is no Topic and no Queue, it is {topic!r}")
    how = How(key=key, headers=dict(map(_header, header or ())), delay=delay)
    through = load_bus(bus) if bus is not None else the_bus_beside(target) or Bus()
    publisher = _Publisher(through, topic, how, quiet=count)
    asyncio.run(publisher.run(payload))
    if count:
        say(str(publisher.count))


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ConfigError(f"--header {text!r}: write NAME=VALUE")
    return name, value


class _Publisher:
    """One call of the command."""

    def __init__(self, bus: Bus, target: Topic[Any] | Queue[Any], how: How, *, quiet: bool) -> None:
        self.count = 0
        self._bus = bus
        self._target = target
        self._how = how
        self._quiet = quiet
        self._checker = Checker(target)

    async def run(self, argument: str) -> None:
        if argument != "-" and not argument.startswith("@"):
            payloads = [self._checker.payload(Line(0, argument.encode()))]
            async with connected(self._bus, self._target.name, "publish"):
                await self._send(payloads)
            return
        total = None if argument == "-" else self._check_all(argument)
        async with connected(self._bus, self._target.name, "publish"):
            await self._send_all(argument, total)

    def _check_all(self, argument: str) -> int:
        """A file is read twice, so that nothing is sent where a line is wrong."""
        count = 0
        with opened(argument) as stream, progress_bar() as bar:
            task = bar.add_task("checking", total=None)
            for lines in batches(stream, whole=self._checker.takes_bytes):
                for line in lines:
                    self._checker.payload(line)
                count += len(lines)
                bar.update(task, completed=count)
        return count

    async def _send_all(self, argument: str, total: int | None) -> None:
        with opened(argument) as stream, progress_bar() as bar:
            task = bar.add_task("publishing", total=total)
            reader = batches(stream, whole=self._checker.takes_bytes)
            try:
                while lines := await asyncio.to_thread(next, reader, None):
                    await self._send([self._checker.payload(line) for line in lines])
                    bar.update(task, completed=self.count)
            except BusError:
                note(f"{self.count} were published before the error")
                raise

    async def _send(self, payloads: Sequence[Any]) -> None:
        receipts = await self._publish(payloads)
        self.count += len(receipts)
        if not self._quiet:
            for receipt in receipts:
                say(receipt.id)

    async def _publish(self, payloads: Sequence[Any]) -> Sequence[Receipt]:
        how, bus, target = self._how, self._bus, self._target
        if how.key is None and not how.delay:
            return await bus.publish_many(target, payloads, headers=how.headers)
        receipts: list[Receipt] = []
        for payload in payloads:
            if isinstance(target, Topic):
                receipt = await bus.publish(target, payload, key=how.key, headers=how.headers, delay=how.delay)
            else:
                receipt = await bus.send(target, payload, key=how.key, headers=how.headers, delay=how.delay)
            receipts.append(receipt)
        return receipts
