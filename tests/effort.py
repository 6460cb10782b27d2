"""How much a run takes on: `make test` tries every fault at a small size, `make faults` at its full one.

`MSGBUS_TEST_FAULTS` is the share of the full size: 0.1 unless it is set, 1 for `make faults`, 10 for a long night.
"""

from __future__ import annotations

import os

SHARE = float(os.environ.get("MSGBUS_TEST_FAULTS", "0.1"))
"""Of the full size."""


def messages(full: int) -> int:
    """How many messages a run passes that has `full` of them at full size."""
    return int(full * SHARE)


def pause(full: float) -> float:
    """Seconds that a handler takes, so that a small run lasts long enough for something to happen to it."""
    return full / min(1.0, SHARE)
