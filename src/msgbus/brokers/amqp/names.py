"""How topics, queues and groups are called on the server.

Topic NAME -> topic exchange NAME. Queue NAME -> queue NAME. Group G of topic NAME -> queue NAME.G. What is dead of a
queue -> QUEUE.dead. What waits for a retry -> QUEUE.retry.MILLISECONDS.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgbus import headers as h
from msgbus.message import Source

RUNGS = (*(125 << step for step in range(20)), 86_400_000)
"""Milliseconds of the delay queues: 0.125 s, doubled up to 18 hours, and a day."""

LONGEST = RUNGS[-1] / 1000
LATEST = 1.0
"""Seconds: the longest delay, and how much later than asked a message may come out of the delay queues."""

DUE = "msgbus-due"
"""Header of a retry whose wait goes on after the delay queue that it is in: until which Unix time, and how long from
then; the shorter one counts, since clocks are set."""

USER = "msgbus-user-id"
"""Header of a copy: the user who published the original, where that is not us."""


def rung(seconds: float) -> int:
    """The delay queue for a wait, in milliseconds; 0 for none at all.

    The next longer one where that is late by at most `LATEST`, else the next shorter one: what comes out of it too
    early waits again for the rest. So a few fixed queues give any delay.
    """
    asked = round(seconds * 1000)
    if asked <= 0:
        return 0
    longer = next((each for each in RUNGS if each >= asked), None)
    if longer is not None and longer - asked <= LATEST * 1000:
        return longer
    return max(each for each in RUNGS if each <= asked)


def delay_of(queue: str, milliseconds: int) -> str:
    """The queue where retries of `queue` wait so long."""
    return f"{queue}.retry.{milliseconds}"


def routing_key(headers: Mapping[str, str]) -> str:
    """What a topic's messages are routed by: their type, so that a group can bind to the types it wants."""
    key = headers.get(h.TYPE, "")
    return key if len(key) <= 255 and len(key.encode()) <= 255 else ""


def binding_keys(source: Source) -> tuple[str, ...]:
    """The routing keys that a group binds to: the types of its filter, else all."""
    for name, values in source.filter:
        if name == h.TYPE and all(_is_literal(value) for value in values):
            return values
    return ("#",)


def _is_literal(value: str) -> bool:
    return 0 < len(value.encode()) <= 255 and not {"*", "#"} & set(value.split("."))
