"""`make demo`, or `python -m examples.shop.demo [--seconds N] [--rate N] [--seed N] [--plain]`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from examples.shop import observe
from examples.shop.app import bus
from examples.shop.demo.plain import PlainLines
from examples.shop.demo.script import Script
from examples.shop.demo.story import BusLog, Story
from examples.shop.demo.summary import Summary
from examples.shop.demo.tally import Tally
from examples.shop.demo.traffic import Customers
from examples.shop.demo.view import View
from rich.console import Console
from rich.live import Live

from msgbus import Bus
from msgbus.config import load_settings

_FRAMES = 12  # a second


def main() -> int:
    """The exit code: 1 where something was lost or out of order."""
    options = _options()
    os.environ["MSGBUS_URL"] = _shared(load_settings().url)
    random.seed(options.seed)
    summary = asyncio.run(_run(options.seconds, options.rate, Console(), plain=options.plain))
    return 0 if summary.ok else 1


def _shared(url: str) -> str:
    """An embedded broker without a name is private to its Bus: the customers' and the shop's would not meet."""
    return re.sub(r"^memory://(?=[?]|$)", "memory://shop", url)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.shop.demo", description="An order shop at work.")
    parser.add_argument("--seconds", type=float, default=6.0, help="about how long it runs (default: 6)")
    parser.add_argument("--rate", type=float, default=300.0, help="orders a second (default: 300)")
    parser.add_argument("--seed", type=int, help="the same customers and failures again (default: others each time)")
    parser.add_argument("--plain", action="store_true", help="lines instead of the live view")
    options = parser.parse_args()
    if not 1 <= options.seconds <= 3600 or not 10 <= options.rate <= 1500:
        parser.error("--seconds is 1 to 3600; --rate 10 to 1500, for billing manages about 1800 a second")
    return options


async def _run(seconds: float, rate: float, console: Console, *, plain: bool) -> Summary:
    tally = Tally((source, members[0].target.name) for source, members in bus.sources())
    observe.observers.append(tally)
    story = Story()
    _take_over_the_log(story)
    async with Bus(publish_middlewares=[observe.around_send]) as customers_bus:
        customers = Customers(customers_bus, rate)
        script = Script(story, tally, customers, seconds, rate)
        title = f"msgbus order shop on {bus.settings.url}"
        async with _shown(console, story, tally, customers, title, plain=plain):
            await script.play()
    summary = Summary(story, tally, customers.quotes)
    summary.print(console)
    return summary


def _take_over_the_log(story: Story) -> None:
    log = logging.getLogger("msgbus")
    log.addHandler(BusLog(story))
    log.propagate = False


@asynccontextmanager
async def _shown(
    console: Console, story: Story, tally: Tally, customers: Customers, title: str, *, plain: bool
) -> AsyncIterator[None]:
    """Show what goes on for the length of the block: live on a terminal, else as lines."""
    if plain or not console.is_terminal:
        showing = asyncio.create_task(PlainLines(console, story, tally, customers.quotes, title).run())
    else:
        showing = asyncio.create_task(_animate(console, View(story, tally, customers.quotes, title)))
    try:
        yield
    finally:
        showing.cancel()
        await asyncio.wait([showing])


async def _animate(console: Console, view: View) -> None:
    with Live(view(*console.size), console=console, auto_refresh=False) as live:
        try:
            while True:
                await asyncio.sleep(1 / _FRAMES)
                live.update(view(*console.size), refresh=True)
        finally:
            live.update(view(*console.size), refresh=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # the shop has stopped softly
        sys.exit(130)
