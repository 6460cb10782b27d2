"""One shard whose lease is ours: what was read and waits, what was handed out, how far it is settled. Sans-IO."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from msgbus import headers as h
from msgbus.brokers.kinesis import aggregation
from msgbus.brokers.kinesis.batching import CHECKED
from msgbus.brokers.kinesis.hashing import hash_of
from msgbus.brokers.kinesis.rows import Open, Progress, Row
from msgbus.brokers.kinesis.sending import GROUP_TAG
from msgbus.brokers.watermark import Mark, Watermark
from msgbus.message import Delivery, Source

_ENVELOPE = b'{"specversion":"1.0"'  # how an envelope of ours begins
_STRUCTURED = "application/cloudevents+json"
_MANY = 50  # open records, above which a row carries them only when it must
_MOST = 1000  # open records that a row carries: an item of DynamoDB has 400 KB

Record = MutableMapping[str, Any]
"""As GetRecords gives it, with its ShardId."""


class Item(NamedTuple):
    """A user record that waits. `skip`: it is not for us, and counts as settled."""

    sequence: str
    sub: int
    key: str
    data: bytes
    raw: Record
    skip: bool = False


class Token(Mark[tuple[str, int]]):
    """The handle of one delivery."""

    __slots__ = ("delivery", "holding")

    def __init__(self, holding: Holding, position: tuple[str, int]) -> None:
        super().__init__(position)
        self.holding = holding
        self.delivery: Delivery | None = None


class Holding:
    """`row` is the lease as it was last written, `behind` how many seconds the last read was behind the newest.

    `tail`: how many records may be handed out beyond the checkpoint before nothing more is. `share`: how many of one
    key may be in hand, so that a failing one does not fill the room of all. `ended`: the shard is closed and read to
    its end; `children`: what came out of it. `lost`: nothing here is ours any more.
    """

    def __init__(self, source: Source, row: Row, tail: int, share: int = 1 << 62) -> None:
        self.row = row
        self.behind: float | None = None
        self.ended = False
        self.children: Sequence[Mapping[str, Any]] = ()
        self.lost = False
        self.giving = False
        self.buffer: deque[Item] = deque()
        self.marks: Watermark[Token] = Watermark()
        self.marks.committed = row.position
        self._source = source
        self._tail = tail
        self._share = share
        self._again: deque[Delivery] = deque()
        self._of_key: dict[str, int] = {}
        self._parked: dict[str, deque[tuple[Item, Token]]] = {}
        self._floor = row.position
        self._resumed = Progress.from_text(row.progress)

    # -- what comes in

    def load(self, records: Sequence[Record]) -> None:
        """Records of the shard, in order; aggregates are taken apart."""
        shard = self.row.shard
        for record in records:
            record["ShardId"] = shard
            data: bytes = record["Data"]
            users = aggregation.decode(data) if data.startswith(aggregation.MAGIC) else None
            if users is None:
                self._add(Item(record["SequenceNumber"], 0, record["PartitionKey"], data, record))
            else:
                self._add_users(record, users)

    def _add_users(self, record: Record, users: Sequence[aggregation.UserRecord]) -> None:
        checked = bool(users) and CHECKED in users[0].tags
        for sub, user in enumerate(users):
            raw = {**record, "PartitionKey": user.key, "SubSequenceNumber": sub}
            skip = self._is_for_others(user) or (checked and self._is_elsewhere(user))
            self._add(Item(record["SequenceNumber"], sub, user.key, user.data, raw, skip))

    def _is_for_others(self, user: aggregation.UserRecord) -> bool:
        return any(name == GROUP_TAG and value != self._source.group for name, value in user.tags)

    def _is_elsewhere(self, user: aggregation.UserRecord) -> bool:
        """It landed here while the stream was split or merged, and was sent again to where it belongs."""
        hash_key = int(user.explicit) if user.explicit else hash_of(user.key)
        return not self.row.first <= hash_key <= self.row.last

    def _add(self, item: Item) -> None:
        if self._floor is not None:
            if (int(item.sequence), item.sub) <= _order(self._floor):
                return  # read again, because an aggregate can only be read from its start
            self._floor = None
        if self._resumed.last is not None and self._resumed.is_settled(item.sequence, item.sub):
            item = item._replace(skip=True)
        self.buffer.append(item)

    # -- what is handed out

    def take(self, limit: int) -> list[Delivery]:
        """Up to `limit` deliveries, now in hand."""
        taken: list[Delivery] = []
        again, buffer, marks, ordered = self._again, self.buffer, self.marks, self._source.ordered
        while again and len(taken) < limit:
            taken.append(again.popleft())
        while buffer and len(taken) < limit and len(marks) < self._tail:
            item = buffer.popleft()
            token = Token(self, (item.sequence, item.sub))
            token.done = item.skip
            marks.add(token)
            if not item.skip and not (ordered and self._must_wait(item, token)):
                taken.append(self._delivery(item, token))
        return taken

    def _must_wait(self, item: Item, token: Token) -> bool:
        """Whether enough of its key is in hand."""
        count = self._of_key.get(item.key, 0)
        if count < self._share:
            self._of_key[item.key] = count + 1
            return False
        if item.key not in self._parked:
            self._parked[item.key] = deque()
        self._parked[item.key].append((item, token))
        return True

    def done(self, token: Token) -> None:
        """It is settled: the prefix may grow, and the next one of its key may be handed out."""
        delivery, token.delivery = token.delivery, None
        self.marks.done(token)
        key = delivery.lane if delivery is not None else None
        if key is None:
            return
        if parked := self._parked.get(key):
            self._again.append(self._delivery(*parked.popleft()))
            if not parked:
                del self._parked[key]
        elif self._of_key[key] > 1:
            self._of_key[key] -= 1
        else:
            del self._of_key[key]

    def _delivery(self, item: Item, token: Token) -> Delivery:
        enveloped = item.data.startswith(_ENVELOPE)  # then it has headers inside, and is known by having none beside
        headers: Mapping[str, str] = {} if enveloped else {h.KEY: item.key}
        before = Open()
        if self._resumed.open:
            before = self._resumed.open.get(token.position, before)
            if before.first_failed:
                headers = {**headers, h.FIRST_FAILED: f"{before.first_failed:.3f}"}
                if enveloped:
                    headers = {**headers, h.CONTENT_TYPE: _STRUCTURED}
        token.delivery = Delivery(
            item.data,
            self._source,
            headers,
            token,
            before.attempt,
            1,
            item.key if self._source.ordered else None,
            item.raw.get("ApproximateArrivalTimestamp"),
            item.raw,
        )
        return token.delivery

    def give_back(self, token: Token) -> None:
        """Unstarted: to be handed out once more, before anything else."""
        if token.delivery is not None:
            self._again.append(token.delivery)

    # -- how far it is

    @property
    def exhausted(self) -> bool:
        """Everything that will ever be in the shard is settled."""
        return self.ended and not self.buffer and not len(self.marks)

    @property
    def waits(self) -> bool:
        """Whether `take` would give something, or move the prefix."""
        return bool(self._again) or (bool(self.buffer) and len(self.marks) < self._tail)

    @property
    def is_dirty(self) -> bool:
        """Whether the checkpoint could be further than it is written."""
        return self.marks.committed != self.row.position

    def in_hand(self) -> Iterator[Token]:
        """What was handed out and is not settled."""
        return self.marks.open()

    def advanced(self, row: Row, *, whole: bool) -> Row:
        """`row` with what is settled by now. `whole`: with all that is settled beyond the checkpoint, however much."""
        committed = self.marks.committed
        if committed is not None and committed != row.position:
            row = replace(row, checkpoint=committed[0], sub=committed[1], at=0.0, switches=0)
        if whole or len(self.marks) <= _MANY:
            row = replace(row, progress=self._progress().to_text())
        return row

    def _progress(self) -> Progress:
        last, opened = self._seen()
        before = self._resumed
        if before.last is not None and (last is None or _order(last) < _order(before.last)):
            later = {each: told for each, told in before.open.items() if last is None or _order(each) > _order(last)}
            return Progress(before.last, {**opened, **later})  # not yet as far as who had it before us
        self._resumed = Progress(None, before.open)  # passed; the attempts of what still waits are there
        return Progress(last, opened) if len(self.marks) else Progress()

    def _seen(self) -> tuple[tuple[str, int] | None, dict[tuple[str, int], Open]]:
        """How far it was handed out, and what is open up to there; as far as there is room for in a row."""
        last = self.marks.committed
        opened: dict[tuple[str, int], Open] = {}
        for token in self.marks:
            if not token.done:
                if len(opened) == _MOST:
                    break
                opened[token.position] = _open(token.delivery)
            last = token.position
        return last, opened


def _order(position: tuple[str, int]) -> tuple[int, int]:
    return int(position[0]), position[1]


def _open(delivery: Delivery | None) -> Open:
    """The core counts attempts on the delivery itself while it holds it."""
    if delivery is None:
        return Open()
    first = delivery.headers.get(h.FIRST_FAILED, "")
    try:
        return Open(delivery.attempt, float(first or 0.0))
    except ValueError:
        return Open(delivery.attempt)
