"""From an archive back into handlers: record by record, or sent to a topic or to one group of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

from msgbus import headers as h
from msgbus.archive import objects
from msgbus.archive.chunks import is_within, order_of, prefixes
from msgbus.archive.record import Archived
from msgbus.archive.store import ArchiveStore
from msgbus.envelope.fitting import fitter
from msgbus.envelope.opening import open_delivery
from msgbus.errors import BusError
from msgbus.message import Address, Delivery, Outgoing, Receipt, Source
from msgbus.publishing.link import Link

_BATCH = 500


async def replay(
    store: ArchiveStore, topic: str, *, since: float, until: float, key: str | None = None
) -> AsyncIterator[Archived]:
    """Records that arrived from `since` until before `until` (Unix seconds), of one partition key or of all.

    In the order of each shard, parents before children; across shards by window. Chunks of both formats may lie side by
    side, even of the same records: each position comes once. Raises DecodeError for an object that is no chunk.
    """
    given: dict[str, set[tuple[str, int]]] = {}
    for prefix in prefixes(since, until):
        names = [name for name in await store.names(f"{topic}/{prefix}") if is_within(name, since, until)]
        for name in sorted(names, key=order_of):
            for record in _new(objects.decode(await store.get(name)), given):
                if since <= record.time < until and (key is None or record.key == key):
                    yield record


def _new(records: Iterable[Archived], given: dict[str, set[tuple[str, int]]]) -> Iterator[Archived]:
    """Those that no chunk of their shard had, as far back as chunks overlap.

    They do where an archiver died between writing and checkpoint, and was told another format, or was set back.
    """
    chunk: dict[str, set[tuple[str, int]]] = {}
    for record in records:
        position = (record.sequence, record.sub)
        chunk.setdefault(record.shard, set()).add(position)
        if position not in given.get(record.shard, ()):
            yield record
    for shard, positions in chunk.items():
        before = given.get(shard, set())
        given[shard] = positions if before.isdisjoint(positions) else before | positions


class Resender:
    """Sends archived records again, each under its own id and key, in the order of its key.

    `into`: a topic, or one group of it alone: its handlers get what they have had, and nobody else does.
    """

    def __init__(self, link: Link, into: Address) -> None:
        self.sent = 0
        self._link = link
        self._into = into
        self._fit = fitter(str(into), link.broker.capabilities(Source(into.kind, into.name, into.group)))

    async def send(self, records: AsyncIterator[Archived]) -> int:
        """All of them; how many. Raises the error of the first that can't be sent: those before it were."""
        batch: list[Outgoing] = []
        async for record in records:
            batch.append(self._outgoing(record))
            if len(batch) == _BATCH:
                await self._send(batch)
                batch = []
        if batch:
            await self._send(batch)
        return self.sent

    def _outgoing(self, record: Archived) -> Outgoing:
        delivery = Delivery(record.data, Source(self._into.kind, self._into.name), {})
        open_delivery(delivery)
        position = f"{record.shard}:{record.sequence}:{record.sub}"
        headers = {**delivery.headers}
        message_id = headers.setdefault(h.ID, position)
        headers.setdefault(h.KEY, record.key)
        headers[h.HOP], dedup_id = h.resend_id(headers, message_id)
        key = headers[h.KEY]
        out = Outgoing(self._into, message_id, delivery.body, headers, key, dedup_id=dedup_id, lane=key)
        if self._fit is not None:
            self._fit(out)
        return out

    async def _send(self, batch: Sequence[Outgoing]) -> None:
        for result in await self._link.send(batch):
            if isinstance(result, Receipt):
                self.sent += 1
            elif isinstance(result, BusError):
                raise result
