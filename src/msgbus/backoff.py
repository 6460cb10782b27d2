"""Exponential back-off with full jitter (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/)."""

from __future__ import annotations

import random


def delay(attempt: int, first: float, factor: float = 2.0, longest: float = 30.0, jitter: float = 1.0) -> float:
    """Seconds to wait after failure number `attempt` (from 1).

    `jitter` 1.0 draws from 0 to the full delay, 0.0 does not draw at all, 0.5 from half of it.
    """
    try:
        full = min(longest, first * factor ** max(0, attempt - 1))
    except OverflowError:
        full = longest
    return full * (1.0 - jitter * random.random())
