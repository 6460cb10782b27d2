"""Counts the timers of the running event loop that ring: who polls is found by them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


@contextmanager
def counted_timers() -> Iterator[list[float]]:
    """The time of each timer set in the block that rang; skips where the loop can't be watched (uvloop)."""
    loop = asyncio.get_running_loop()
    rung: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        try:
            patch.setattr(loop, "call_at", _watched(loop.call_at, rung))
        except AttributeError:
            pytest.skip("the timers of this event loop can't be watched")
        yield rung


def _watched(call_at: Callable[..., asyncio.TimerHandle], rung: list[float]) -> Callable[..., asyncio.TimerHandle]:
    def watched(when: float, callback: Callable[..., object], *args: Any, **options: Any) -> asyncio.TimerHandle:
        def ring() -> None:
            rung.append(when)
            callback(*args)

        return call_at(when, ring, **options)

    return watched
