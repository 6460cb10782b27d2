"""Tells relays elsewhere that something was committed: from another connection, and for many commits at once.

A NOTIFY inside the caller's transaction would have all commits of the database wait for one another.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from msgbus.errors import BusError, shown

log = logging.getLogger("msgbus.outbox")

_PAUSE = 0.02  # seconds between two notifications, however many commits there are


class Notifies(Protocol):
    """A store that can wake relays in other processes."""

    async def notify(self) -> None:
        """Wake them. Raises Unavailable."""


class Waker:
    """One notification for all that was committed meanwhile."""

    def __init__(self, store: Notifies) -> None:
        self._store = store
        self._task: asyncio.Task[None] | None = None
        self._again = False

    def wake(self) -> None:
        """Soon; nobody waits for it."""
        self._again = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while self._again:
            self._again = False
            try:
                await self._store.notify()
            except BusError as error:
                log.info("outbox: relays find it when they look next: %s", shown(error))
            await asyncio.sleep(_PAUSE)
