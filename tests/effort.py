"""How much a run takes on: `make test` tries every fault at a small size, `make faults` at its full one.

`MSGBUS_TEST_FAULTS` is the share of the full size: 0.1 unless it is set, 1 for `make faults`, 10 for a long night.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

import pytest

T = TypeVar("T")

SHARE = float(os.environ.get("MSGBUS_TEST_FAULTS", "0.1"))
"""Of the full size."""


def messages(full: int) -> int:
    """How many messages a run passes that has `full` of them at full size."""
    return int(full * SHARE)


def pause(full: float) -> float:
    """Seconds that a handler takes, so that a small run lasts long enough for something to happen to it."""
    return full / min(1.0, SHARE)


def clients(first: T, *others: T) -> Sequence[T]:
    """The wires that a fault run goes over: the one that services use; at full size the others too."""
    return (first, *others) if SHARE >= 1.0 else (first,)


def at_full_size_only(client: str, first: str, *others: str) -> None:
    """Skip a test over one of the other wires that starts a server again: most of what it costs is the server's."""
    if client not in clients(first, *others):
        pytest.skip("over the other wire at full size: make faults")
