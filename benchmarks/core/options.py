"""What each optional part of the core costs on top of a plain subscription."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.core.harness import Case
from benchmarks.core.ours import case
from benchmarks.core.payloads import SMALL
from msgbus import Delivery, Limits
from msgbus.handlers.middleware import Handle
from msgbus.message import Outgoing
from msgbus.publishing.middleware import SendNext


async def around_handler(delivery: Delivery, handle: Handle) -> None:
    """A middleware that does nothing."""
    await handle(delivery)


async def around_send(batch: Sequence[Outgoing], send: SendNext) -> Sequence[Any]:
    """A publish middleware that does nothing."""
    return await send(batch)


class Counter:
    """A middleware that counts, as a metrics library would."""

    def __init__(self) -> None:
        self.handled = 0
        self.failed = 0

    async def __call__(self, delivery: Delivery, handle: Handle) -> None:
        try:
            await handle(delivery)
        except Exception:
            self.failed += 1
            raise
        self.handled += 1


def cases(count: int) -> list[Case]:
    """The first is the plain one that the others are compared with. `publish_many` of 100 small messages."""
    parts: dict[str, dict[str, Any]] = {
        "plain": {},
        "lanes by key (ordered=True)": {"lanes": True},
        "a handler deadline": {"limits": Limits(timeout=30.0)},
        "a rate limit": {"limits": Limits(rate=1e9)},
        "one consume middleware": {"middlewares": [around_handler]},
        "one publish middleware": {"publish_middlewares": [around_send]},
        "counting, as metrics do": {"middlewares": [Counter()]},
    }
    return [Case(name, case("many", SMALL, **options), count) for name, options in parts.items()]
