"""The entries of one call on their way through the batcher, and how a batch is cut."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from msgbus.broker import Result
from msgbus.errors import RETRYABLE, BusError
from msgbus.message import Outgoing


class Chunk:
    """Entries of one call that go out together, and the future that its caller awaits.

    After a failure in part it holds the failed entries alone; `outcome` has the results of all, `places` where the
    failed ones belong.
    """

    __slots__ = ("attempt", "bytes", "count", "entries", "lane", "outcome", "places", "results")

    def __init__(
        self, entries: Sequence[Outgoing], size: int, lane: str | None, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.entries = entries
        self.count = len(entries)
        self.bytes = size
        self.lane = lane
        self.attempt = 0
        self.outcome: list[Result] | None = None
        self.places: Sequence[int] = ()
        self.results: asyncio.Future[Sequence[Result]] = loop.create_future()

    def merge(self, results: Sequence[Result]) -> Sequence[BusError]:
        """Take the results of one attempt; the errors of those that are worth another, which alone remain."""
        if self.outcome is None:
            self.outcome, self.places = list(results), range(len(results))
        else:
            for place, result in zip(self.places, results, strict=True):
                self.outcome[place] = result
        again = [i for i, result in enumerate(results) if isinstance(result, RETRYABLE)]
        self.entries = [self.entries[i] for i in again]
        self.places = [self.places[i] for i in again]
        return [error for error in results if isinstance(error, RETRYABLE)]


def shares(chunks: Sequence[Chunk], results: Sequence[Result]) -> Iterator[tuple[Chunk, Sequence[Result]]]:
    """Each chunk with its own part of a batch's results."""
    start = 0
    for chunk in chunks:
        end = start + len(chunk.entries)
        yield chunk, results[start:end]
        start = end


def fail(chunks: Iterable[Chunk], error: Exception) -> None:
    """Tell those who still wait."""
    for chunk in chunks:
        if not chunk.results.done():
            chunk.results.set_exception(error)


def wire_size(entry: Outgoing) -> int:
    """Bytes of an entry as brokers count them: body, header names and values in UTF-8 (near enough for ASCII)."""
    size = len(entry.body) + (len(entry.key) if entry.key else 0)
    for name, value in entry.headers.items():
        size += len(name) + (len(value) if value.isascii() else len(value.encode()))
    return size
