"""One shard whose lease is ours: what was read and waits, what was handed out, how far it is settled. Sans-IO."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from msgbus.brokers.kinesis.deliveries import delivery_of, open_of
from msgbus.brokers.kinesis.keys import KeyShares
from msgbus.brokers.kinesis.parts import Form
from msgbus.brokers.kinesis.records import MOST, SKIP, Intake, Record, order_of, position_of
from msgbus.brokers.kinesis.rows import SUSPECTS, Open, Progress, Row
from msgbus.brokers.watermark import Watermark
from msgbus.errors import BusError
from msgbus.message import Delivery, Source

_MANY = 50  # open records, above which a row carries them only when it must
_MOST = 1000  # open records that a row carries: an item of DynamoDB has 400 KB


class Token:
    """The handle of one delivery, and its mark. `out`: it was handed out, and neither settled nor given back.

    `tried`: the row counts it as delivered from before it is handed out.
    """

    __slots__ = ("delivery", "done", "holding", "out", "record", "tried")

    def __init__(self, holding: Holding, record: Record) -> None:
        self.holding = holding
        self.record = record
        self.delivery: Delivery | None = None
        self.done = False
        self.out = False
        self.tried = False

    @property
    def position(self) -> tuple[str, int]:
        """Sequence number and sub-sequence number."""
        return position_of(self.record)


class Holding:
    """`row` is the lease as it was last written, `behind` how many seconds the last read was behind the newest,
    `trouble` what the last one failed of, where that may pass.

    `tail`: how many records may be handed out beyond the checkpoint before nothing more is. `share`: how many of one
    key may be in hand, so that a failing one does not fill the room of all. `most`: records of an aggregate that is
    taken apart. `ended`: the shard is closed and read to its end; `children`: what came out of it. `lost`: nothing
    here is ours any more. `counts`: something in it may have been delivered before.
    """

    def __init__(
        self, source: Source, row: Row, tail: int, share: int = 1 << 62, most: int = MOST, parts: Form = "one"
    ) -> None:
        self.row = row
        self.behind: float | None = None
        self.trouble: BusError | None = None
        self.ended = False
        self.children: Sequence[Mapping[str, Any]] = ()
        self.lost = False
        self.giving = False
        self.buffer: deque[Record] = deque()
        self.marks: Watermark[Token] = Watermark(row.position)
        self._source = source
        self._tail = tail
        self._again: deque[Delivery] = deque()
        self._keys: KeyShares[Token] = KeyShares(share)
        self._intake = Intake(row, source.group, most, parts)
        self._resumed = Progress.from_text(row.progress)
        self._told = row
        self._handed = 0  # since then, or before it and not settled
        self.counts = any(each.deliveries for each in self._resumed.open.values())
        self._skips = self._resumed.last is not None  # whether a record may be settled before it is handed out

    def load(self, records: Sequence[Record]) -> None:
        """Records of the shard, in order; aggregates are taken apart. A read that succeeds ends its trouble."""
        self.trouble = None
        self.buffer.extend(self._intake.unpacked(records))

    # -- what is handed out

    def take(self, limit: int) -> list[Delivery]:
        """Up to `limit` deliveries, now in hand."""
        taken: list[Delivery] = []
        skips = self._skips or self._intake.skips
        again, buffer, marks, ordered = self._again, self.buffer, self.marks, self._source.ordered
        while again and len(taken) < limit:
            taken.append(again.popleft())
        if self.row.crashes or self.row.suspects:
            limit = min(limit, len(taken) + self._allowed())
        room = self._tail - len(marks)
        while buffer and len(taken) < limit and room > 0:
            token = Token(self, buffer.popleft())
            token.done = skips and self.is_settled(token.record)
            marks.add(token)
            room = self._tail - len(marks) if token.done else room - 1
            if not token.done and (not ordered or self._keys.enter(token.record["PartitionKey"], token)):
                taken.append(self._delivery(token))
        for delivery in taken:
            delivery.token.out = True
        self._handed += len(taken)
        return taken

    def _allowed(self) -> int:
        """How many more `take` may give after a holder died: few, and suspects not at all."""
        if self.row.suspects:
            return 0
        if self._told is not self.row:
            self._told, self._handed = self.row, sum(token.out and not token.done for token in self.marks)
        return max(0, SUSPECTS // 2 - self._handed)

    def draw(self) -> Delivery | None:
        """The next suspect, which `take` gives after `hand_out`. None: there is none now."""
        while self.has_suspects:
            token = Token(self, self.buffer.popleft())
            token.done = self.is_settled(token.record)
            self.marks.add(token)
            if not token.done:
                token.tried = True
                if self._source.ordered:
                    self._keys.count(token.record["PartitionKey"])
                return self._delivery(token)
        return None

    def forgive(self) -> None:
        """What is not in hand now will not have been."""
        for token in self.in_hand():
            token.tried &= token.out

    def hand_out(self, suspect: Delivery) -> None:
        """`take` may give it now."""
        self._again.append(suspect)

    def is_settled(self, record: Record) -> bool:
        """Whether it is not for us, or was settled by who had this shard before."""
        return SKIP in record or self._resumed.is_settled(*position_of(record))

    def done(self, token: Token) -> None:
        """It is settled: the prefix may grow, and the next one of its key may be handed out."""
        delivery, token.delivery = token.delivery, None
        self.marks.done(token)
        if delivery is None or delivery.lane is None:
            return
        if (following := self._keys.leave(delivery.lane)) is not None:
            self._again.append(self._delivery(following))

    def _delivery(self, token: Token) -> Delivery:
        before = self._resumed.open.get(token.position) if self._resumed.open else None
        token.delivery = delivery_of(token.record, self._source, token, before)
        return token.delivery

    def give_back(self, token: Token) -> None:
        """Unstarted: to be handed out once more, before anything else."""
        token.tried = False
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
        if self._again:
            return True
        if (self.row.crashes or self.row.suspects) and not self._allowed():
            return False
        return bool(self.buffer) and len(self.marks) < self._tail

    @property
    def has_suspects(self) -> bool:
        """Whether `draw` may give something."""
        return self.row.suspects > 0 and bool(self.buffer) and len(self.marks) < self._tail

    @property
    def is_dirty(self) -> bool:
        """Whether the checkpoint could be further than it is written."""
        return self.marks.committed != self.row.position

    def lag(self, now: float) -> float | None:
        """Seconds from the oldest record that is not settled to now, or from the last read to the newest record.

        None before the first read. May be asked from any thread.
        """
        if self.behind is None:
            return None
        came = self._oldest()
        return self.behind if came is None else max(self.behind, now - came)

    def _oldest(self) -> float | None:
        """When the oldest record that is not settled came."""
        first = self.marks.first
        delivery = first.delivery if first is not None else None
        if delivery is not None:
            return delivery.sent_at
        try:
            record = self.buffer[0]
        except IndexError:
            return None
        came: float | None = record.get("ApproximateArrivalTimestamp")
        return came

    def in_hand(self) -> Iterator[Token]:
        """What was handed out and is not settled."""
        return self.marks.open()

    def advanced(self, row: Row, *, whole: bool) -> Row:
        """`row` with what is settled by now. `whole`: with all that is settled beyond the checkpoint, however much.

        What is in hand at a whole write counts as delivered: the lease is let go with it.
        """
        committed = self.marks.committed
        if committed is not None and committed != row.position:
            row = replace(row, checkpoint=committed[0], sub=committed[1], at=0.0, switches=0, crashes=0)
        if whole or row.crashes or len(self.marks) <= _MANY:
            row = replace(row, progress=self._progress(counted=whole).to_text())
        return row

    def _progress(self, *, counted: bool) -> Progress:
        last, opened = self._seen(counted=counted)
        before = self._resumed
        if before.last is not None and (last is None or order_of(last) < order_of(before.last)):
            later = {
                each: told for each, told in before.open.items() if last is None or order_of(each) > order_of(last)
            }
            return Progress(before.last, {**opened, **later})  # not yet as far as who had it before us
        self._resumed = Progress(None, before.open)  # passed; the attempts of what still waits are there
        return Progress(last, opened) if len(self.marks) else Progress()

    def _seen(self, *, counted: bool) -> tuple[tuple[str, int] | None, dict[tuple[str, int], Open]]:
        """How far it was handed out, and what is open up to there; as far as there is room for in a row."""
        last = self.marks.committed
        opened: dict[tuple[str, int], Open] = {}
        for token in self.marks:
            if not token.done:
                if len(opened) == _MOST:
                    break
                opened[token.position] = open_of(token.delivery, counted=token.tried or (counted and token.out))
            last = token.position
        return last, opened
