"""The books of one `Broker.send`: which entries go out, and what became of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar, cast

from msgbus.errors import BusError, Refused
from msgbus.message import Outgoing, Receipt

T = TypeVar("T")


async def send(
    batch: Sequence[Outgoing],
    refusal: Callable[[Outgoing], BusError | None],
    native: Callable[[Outgoing, float], T],
    publish: Callable[[Sequence[T]], Awaitable[Sequence[BusError | None]]],
    failed: Callable[[Outgoing, BusError], Receipt | BusError],
    now: float,
) -> Sequence[Receipt | BusError]:
    """Publish all that is not refused, in one call.

    `refusal`: why an entry must not go out. `native`: the entry as the client sends it; `now` is Unix time. `publish`:
    one outcome each, None for a message that the server has. `failed`: what any other outcome means for its entry.
    """
    results: list[Receipt | BusError | None] = [None] * len(batch)
    messages: list[T] = []
    places: list[int] = []
    for place, out in enumerate(batch):
        refused = refusal(out)
        if refused is not None:
            results[place] = refused
            continue
        places.append(place)
        messages.append(native(out, now))
    for place, error in zip(places, await publish(messages), strict=True):
        out = batch[place]
        results[place] = Receipt(out.id) if error is None else failed(out, error)
    return cast(list[Receipt | BusError], results)


def too_large(out: Outgoing, most: int) -> Refused:
    """Its body has more bytes than that."""
    return Refused(f"{out.address}: the body has {len(out.body):,} bytes, allowed are {most:,} (?max_bytes=)")


def missing_queue(what: object, name: str) -> Refused:
    """A queue that is not there, as the error of `what` needs it."""
    return Refused(f"{what}: the queue {name} is not there: with MSGBUS_PROVISION=create it is made at start")
