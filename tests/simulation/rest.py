"""What a bus at rest may still hold: nothing. Looked at inside, since memory that grows is seen nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgbus import Bus
from msgbus.consuming.session import Session
from msgbus.publishing.batcher import Batcher


def left_over(bus: Bus) -> Iterator[str]:
    """What of the work that is done was not let go."""
    for runner in bus.runners:
        if runner.session is not None:
            yield from (f"{runner.subscription.source}: {what}" for what in _of_session(runner.session))
    for link in bus.links.values():
        if link._batcher is not None:
            yield from _of_batcher(link._batcher)
    wiring = bus._wiring
    if wiring is not None:
        kept = {
            "requests": sum(len(inbox._pending) for inbox in wiring._inboxes.values()),
            "alarms": len(wiring.alarms.pending),
        }
        yield from _said(kept)


def _of_batcher(batcher: Batcher) -> Iterator[str]:
    gate = batcher._gate
    return _said(
        {
            "queued entries": batcher._queued,
            "slots taken": batcher._slots - batcher._free,
            "chunks": len(batcher._waiting),
            "senders that wait": len(batcher._room),
            "keys behind the gate": len(gate._busy) if gate is not None else 0,
        }
    )


def _of_session(session: Session) -> Iterator[str]:
    fate, settler = session._fate, session._settler
    kept = {
        "in hand": len(fate.in_hand),
        "ready": len(fate.ready),
        "held": len(fate._held),
        "keys": len(fate._lanes._busy),
        "unsettled": len(settler._pending) + len(settler._copies),
        "hooks": len(session._hooks),
        "workers at work": session._workers.running,
    }
    return _said(kept)


def _said(kept: Mapping[str, int]) -> Iterator[str]:
    return (f"{count} {what}" for what, count in kept.items() if count)
