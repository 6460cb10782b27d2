"""The pages of a relay: the next one is read while the last one is being sent."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from msgbus.errors import BusError
from msgbus.outbox.holding import Holding
from msgbus.outbox.store import Page, Store, Wanted

_CHAIN = 8  # pages in a row that begin where the last one ended: what was committed below it waits for that long


@dataclass(frozen=True, slots=True)
class Read:
    """A page, and what it was asked for. `is_ahead`: it begins above what was being sent, not at the floors."""

    page: Page
    wanted: Sequence[Wanted]
    is_ahead: bool = False

    @property
    def tokens(self) -> Mapping[int, int]:
        """By partition."""
        return {each.part: each.hold.token for each in self.wanted}

    @property
    def tops(self) -> Mapping[int, int]:
        """The highest place that was read of each partition with rows."""
        tops: dict[int, int] = {}
        for row in self.page.rows:
            if row.seq > tops.get(row.part, 0):
                tops[row.part] = row.seq
        return tops


class Reader:
    """Reads what `holding` has. One page at a time, and at most one ahead of it."""

    def __init__(self, store: Store, owner: str, holding: Holding, batch: int) -> None:
        self._store = store
        self._owner = owner
        self._holding = holding
        self._batch = batch
        self._ahead: asyncio.Task[Read] | None = None
        self._chain = 0

    async def read(self, skip: Collection[str]) -> Read:
        """The next page, without what is for places in `skip`. Raises Unavailable."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            read = await ahead
            if read.page.rows and not skip and self._has(read.wanted):
                return read
        self._chain = 0
        wanted = self._holding.wanted()
        return await self._page(wanted, skip) if wanted else Read(Page([]), wanted)

    def read_ahead(self, last: Read) -> None:
        """Begin with the page behind `last`, which is being sent whole."""
        if len(last.page.rows) < self._batch or self._chain == _CHAIN:
            return
        self._chain += 1
        tops = last.tops
        wanted = [each._replace(floor=max(each.floor, tops.get(each.part, 0))) for each in last.wanted]
        self._ahead = asyncio.create_task(self._page(wanted, (), is_ahead=True))

    async def forget(self) -> None:
        """Something of the last page was not sent: what was read behind it may not go first."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            with suppress(BusError):
                await ahead

    async def _page(self, wanted: Sequence[Wanted], skip: Collection[str], *, is_ahead: bool = False) -> Read:
        return Read(await self._store.read(self._owner, wanted, skip, self._batch), wanted, is_ahead)

    def _has(self, wanted: Sequence[Wanted]) -> bool:
        """Whether all of it is still held as it was when it was read."""
        parts = self._holding.parts
        return all(each.part in parts and parts[each.part].hold == each.hold for each in wanted)
