"""The books of one `Broker.send`: which entries go out, and what became of each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar, cast

from msgbus.errors import BusError, Refused
from msgbus.message import Outgoing, Receipt

T = TypeVar("T")
Absent = TypeVar("Absent", bound=Collection[str])
Results = list[Receipt | BusError | None]


def prepared(
    batch: Sequence[Outgoing],
    native: Callable[[Outgoing, Absent, float], T | BusError],
    absent: Absent,
    now: float,
) -> tuple[Results, list[T]]:
    """The errors of what must not go out, with None for the others, and those as the client sends them.

    `native(out, absent, now)`: one message, or why it must not go out. `absent`: the places that are missing. `now`:
    Unix time.
    """
    results: Results = []
    messages: list[T] = []
    for out in batch:
        made = native(out, absent, now)
        if isinstance(made, BusError):
            results.append(made)
        else:
            results.append(None)
            messages.append(made)
    return results, messages


def completed(
    batch: Sequence[Outgoing],
    results: Results,
    outcomes: Sequence[BusError | None],
    failed: Callable[[Outgoing, BusError], Receipt | BusError],
) -> Sequence[Receipt | BusError]:
    """With the outcomes of what went out: None for what the server has. `failed`: what another means for its entry."""
    came = iter(outcomes)
    for place, out in enumerate(batch):
        if results[place] is None:
            error = next(came)
            results[place] = Receipt(out.id) if error is None else failed(out, error)
    return cast(list[Receipt | BusError], results)


def too_large(out: Outgoing, most: int) -> Refused:
    """Its body has more bytes than that."""
    return Refused(f"{out.address}: the body has {len(out.body):,} bytes, allowed are {most:,} (?max_bytes=)")


def missing_queue(what: object, name: str) -> Refused:
    """A queue that is not there, as the error of `what` needs it."""
    return Refused(f"{what}: the queue {name} is not there: with MSGBUS_PROVISION=create it is made at start")
