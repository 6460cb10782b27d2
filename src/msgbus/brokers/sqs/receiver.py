"""SqsReceiver: one queue, read by long polls and settled in batches."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgbus.brokers.mailbox import Mailbox
from msgbus.brokers.sqs.attempts import Attempts
from msgbus.brokers.sqs.polls import PollOptions, Polls
from msgbus.brokers.sqs.settling import LONGEST, Change, QueueCalls
from msgbus.brokers.sqs.wire import Token, delivery_of
from msgbus.clock import Clock
from msgbus.errors import BusError, LeaseLost, ReceiverClosed
from msgbus.message import Act, Delivery, Settlement, Source

log = logging.getLogger("msgbus.sqs")

_BATCH = 10
_ACK = Act.ACK  # looked up once, and never hashed: both are dear before Python 3.12

Result = BusError | None
Settle = Callable[[Sequence[Settlement], Sequence[int], list[Result]], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverOptions:
    """`lease`: seconds a delivery is ours. `unwrap`: open envelopes of SNS and EventBridge. `attempts`: of FIFO
    queues, where the count of receives says nothing about them.
    """

    prefetch: int
    lease: float
    unwrap: bool
    polls: PollOptions
    attempts: Attempts | None = None
    address: str = ""


class SqsReceiver:
    """A competing consumer of one queue."""

    def __init__(self, source: Source, calls: QueueCalls, clock: Clock, options: ReceiverOptions) -> None:
        self.address = options.address
        self._source = source
        self._calls = calls
        self._now = clock.now
        self._prefetch = options.prefetch
        self._lease = options.lease
        self._unwrap = options.unwrap
        self._attempts = options.attempts
        self._held: set[Token] = set()
        self._mailbox: Mailbox[Delivery] = Mailbox(clock)
        self._polls = Polls(calls.client, calls.url, options.polls, self._mailbox, self._accept)
        self._kinds: Mapping[Act, Settle] = {
            Act.RETRY: self._give_back,
            Act.RELEASE: self._give_back,
            Act.DEAD: self._bury,
        }
        self._stopped = False
        self._closed = False

    # -- receiving

    async def receive(self, limit: int, wait: float) -> Sequence[Delivery]:
        """What has come; polls go on in the background for what there is room for, and only then."""
        if self._closed:
            raise ReceiverClosed(f"{self._source}: the receiver is closed")
        if self._stopped:
            while not self._mailbox and self._polls.under_way:
                await self._polls.one_back()
        elif wait > 0:
            self._ask(limit)
        pause = min(wait, self._until_room())
        try:
            batch = await self._mailbox.take(limit, 0.0 if self._stopped else pause)
        finally:
            self._polls.ask(0)
        self._held.update([delivery.token for delivery in batch])
        return batch if batch or pause == wait or self._stopped else await self.receive(limit, wait - pause)

    def _until_room(self) -> float:
        """Seconds until a lease ends, where all room is taken: what is lost leaves it, though nobody settles it."""
        if len(self._held) < self._prefetch or self._mailbox:
            return math.inf
        return max(0.0, min(token.ends for token in self._held) - self._now())

    def _ask(self, limit: int) -> None:
        ready = len(self._mailbox)
        room = self._prefetch - len(self._held) - ready
        if room <= self._polls.asked:
            self._forget_expired()
            room = self._prefetch - len(self._held) - ready
        self._polls.ask(min(limit, room + ready))

    def _forget_expired(self) -> None:
        """Deliveries that nobody settled or extended are no longer ours."""
        now = self._now()
        self._held = {token for token in self._held if token.ends > now}

    def _accept(self, messages: Sequence[Mapping[str, Any]]) -> Sequence[Delivery]:
        ends = self._now() + self._lease
        deliveries: list[Delivery] = []
        for message in messages:
            try:
                token = Token(self, message, ends)
            except (TypeError, KeyError):  # without a handle nothing can be done about it: it stays in the queue
                log.error("%s: a message without an id or a receipt handle is passed over", self._source)
                continue
            attempt = None if self._attempts is None else self._attempts.of(token.id)
            deliveries.append(delivery_of(message, self._source, token, attempt, self._unwrap))
        return deliveries

    async def stop(self) -> None:
        """Polls under way are let return: what they bring is handed in, so that it is given back at once."""
        self._stopped = True
        self._mailbox.close()

    async def close(self) -> None:
        """Wait for the polls under way, and give back what they brought and nobody took."""
        self._stopped = True
        self._mailbox.close()
        await self._polls.all_back()
        left = list(self._mailbox.items)
        self._mailbox.items.clear()
        self._closed = True
        await self._change_all([Change(delivery, 0) for delivery in left])

    # -- settling

    async def settle(self, batch: Sequence[Settlement]) -> Sequence[Result]:
        """The kinds at the same time, each in one call; dead letters are written before they are deleted."""
        results: list[Result] = [None] * len(batch)
        by_kind: dict[Settle, list[int]] = {}
        now = self._now()
        done: list[int] = []
        for place, settlement in enumerate(batch):
            token: Token = settlement.delivery.token
            if token.owner is not self or token.ends <= now or self._closed:
                results[place] = self._lost(token)
            elif settlement.act is _ACK:
                done.append(place)
            else:
                by_kind.setdefault(self._kinds[settlement.act], []).append(place)
        if done:
            by_kind[self._delete] = done
        if len(by_kind) == 1:
            ((settle, places),) = by_kind.items()
            await settle(batch, places, results)
        elif by_kind:
            await asyncio.gather(*(settle(batch, places, results) for settle, places in by_kind.items()))
        return results

    async def _delete(self, batch: Sequence[Settlement], places: Sequence[int], results: list[Result]) -> None:
        tokens = [batch[place].delivery.token for place in places]
        errors = await self._calls.delete(tokens)
        if errors.count(None) == len(tokens) and self._attempts is None:  # nearly always
            self._held.difference_update(tokens)
            for token in tokens:
                token.owner = None
            return
        for place, token, error in zip(places, tokens, errors, strict=True):
            self._conclude(token, error)
            results[place] = error
            if error is None and self._attempts is not None:
                self._attempts.forget(token.id)

    async def _give_back(self, batch: Sequence[Settlement], places: Sequence[int], results: list[Result]) -> None:
        changes = [_change(batch[place]) for place in places]
        for place, change, error in zip(places, changes, await self._calls.change(changes), strict=True):
            token: Token = change.delivery.token
            self._conclude(token, error)
            results[place] = error
            if error is None and self._attempts is not None:
                started = batch[place].act is Act.RETRY
                self._attempts.remember(token.id, change.delivery.attempt + started)

    async def _bury(self, batch: Sequence[Settlement], places: Sequence[int], results: list[Result]) -> None:
        """Write, then delete. One that was written and could not be deleted is not written again."""
        unwritten = [place for place in places if not batch[place].delivery.token.buried]
        errors = await self._calls.bury([batch[place] for place in unwritten]) if unwritten else ()
        for place, error in zip(unwritten, errors, strict=True):
            results[place] = error
            batch[place].delivery.token.buried = error is None
        written = [place for place in places if batch[place].delivery.token.buried]
        if written:
            await self._delete(batch, written, results)

    async def extend(self, batch: Sequence[Delivery], seconds: float) -> Sequence[Result]:
        """Ten a call. What waits in the mailbox is extended with it: nobody else knows of it yet."""
        whole = min(max(1, math.ceil(seconds)), LONGEST)
        now = self._now()
        results: list[Result] = [None] * len(batch)
        live: list[int] = []
        for place, delivery in enumerate(batch):
            token: Token = delivery.token
            if token.owner is not self or token.ends <= now or self._closed:
                results[place] = self._lost(token)
            else:
                live.append(place)
        waiting = list(self._mailbox.items)
        changes = [Change(batch[place], whole) for place in live] + [Change(each, whole) for each in waiting]
        errors = await self._change_all(changes)
        for place, error in zip(live, errors[: len(live)], strict=True):
            results[place] = error
        return results

    async def _change_all(self, changes: Sequence[Change]) -> list[Result]:
        parts = [changes[start : start + _BATCH] for start in range(0, len(changes), _BATCH)]
        answers = await asyncio.gather(*(self._extend_some(part) for part in parts))
        return [error for answer in answers for error in answer]

    async def _extend_some(self, changes: Sequence[Change]) -> Sequence[Result]:
        ends = self._now()
        errors = await self._calls.change(changes)
        for change, error in zip(changes, errors, strict=True):
            token: Token = change.delivery.token
            if error is None:
                token.ends = ends + change.seconds
            elif isinstance(error, LeaseLost):
                self._conclude(token, error)
        return errors

    def _conclude(self, token: Token, error: Result) -> None:
        """Settled or lost: its handle is worth nothing any more."""
        if error is None or isinstance(error, LeaseLost):
            token.owner = None
            self._held.discard(token)

    def _lost(self, token: Token) -> LeaseLost:
        if token.owner is self:
            self._held.discard(token)
        why = "it was settled, its lease ran out, or it is another receiver's"
        return LeaseLost(f"{self._source}: this delivery is not ours to settle: {why}")


def _change(settlement: Settlement) -> Change:
    """RETRY comes back after its delay, never earlier; RELEASE at once."""
    delay = settlement.delay if settlement.act is Act.RETRY else 0.0
    return Change(settlement.delivery, math.ceil(delay) if delay < LONGEST else LONGEST)  # LONGEST: what is no number
