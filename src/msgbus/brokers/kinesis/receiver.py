"""KinesisReceiver: the shards of one group that this worker has, as one stream of deliveries."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence

from msgbus import backoff
from msgbus.broker import Lag
from msgbus.brokers.kinesis.failures import Failures
from msgbus.brokers.kinesis.group import Group
from msgbus.brokers.kinesis.holding import Holding, Token
from msgbus.brokers.kinesis.shardwork import Hand
from msgbus.brokers.wakeup import Wakeup
from msgbus.clock import Clock
from msgbus.errors import BusError, LeaseLost, ReceiverClosed
from msgbus.message import Act, Delivery, Settlement, Source

_ACK = Act.ACK  # looked up once: an enum's members are dear to reach before Python 3.12

log = logging.getLogger("msgbus.kinesis")

Result = BusError | None
OnLost = Callable[[Delivery, Exception], None]


class KinesisReceiver:
    """Hands out what its group's worker reads; a settled delivery moves the checkpoint of its shard, in time.

    `on_lost` is told of each delivery in hand whose shard is no longer ours.
    """

    address = ""

    def __init__(self, source: Source, failures: Failures, clock: Clock, hand: Hand) -> None:
        self.on_lost: OnLost | None = None
        self.group: Group
        self._source = source
        self._failures = failures
        self._clock = clock
        self._prefetch = hand.prefetch
        self._cap = hand.cap or 1 << 62
        self._burials: set[asyncio.Task[None]] = set()
        self._in_hand = 0
        self._turn = 0
        self._failure: BusError | None = None
        self._trouble: BusError | None = None  # as it was told last
        self._wakeup = Wakeup(clock)
        self._stopped = False
        self._closed = False

    # -- receiving

    async def receive(self, limit: int, wait: float) -> Sequence[Delivery]:
        """From all shards in turn.

        Raises ReceiverClosed where it is closed, or its stream or leases are gone, and why nothing can be read where
        that fails of all its shards: each time anew, and the first answer after that says that it is over.
        """
        batch = self._collect(limit)
        if batch or wait <= 0:
            return batch
        give_up = self._clock.now() + wait
        while not batch and not self._stopped and (left := give_up - self._clock.now()) > 0:
            before, self._trouble = self._trouble, self._trouble_of_all()
            if self._trouble is None and before is not None:
                break
            if self._trouble is not None and self._trouble is not before:
                raise self._trouble
            await self._wakeup.wait(left)
            batch = self._collect(limit)
        return batch

    def _trouble_of_all(self) -> BusError | None:
        """Why nothing can be read; None where something can."""
        troubles = [work.holding.trouble for work in self.group.work.values()] or [self.group.trouble]
        return None if None in troubles else troubles[0]

    def trouble(self) -> str:
        """What can't be read, or why leases can't be had; "" where all is well."""
        works = list(self.group.work.values())
        said = [f"{work.holding.row.shard}: {work.holding.trouble}" for work in works if work.holding.trouble]
        said += [f"leases: {self.group.trouble}"] if self.group.trouble else []
        return f"{self._source}: {said[0]}" if said else ""

    def _collect(self, limit: int) -> list[Delivery]:
        if self._closed:
            raise ReceiverClosed(f"{self._source}: the receiver is closed")
        if self._failure is not None:
            raise ReceiverClosed(f"{self._source}: {self._failure}") from self._failure
        batch: list[Delivery] = []
        if self._stopped:
            return batch
        works = list(self.group.work.values())
        self._turn += 1
        for place in range(len(works)):
            room = min(limit, self._prefetch - self._in_hand) - len(batch)
            if room <= 0:
                break
            holding = works[(self._turn + place) % len(works)].holding
            if not holding.giving and not self.group.is_over(holding):
                batch += self._take(holding, room)
        self._in_hand += len(batch)
        return batch

    def _take(self, holding: Holding, room: int) -> Sequence[Delivery]:
        if holding.has_suspects:
            self.group.try_suspect(holding)
        if not holding.waits:
            return ()
        taken = holding.take(room)
        self.group.taken(holding)
        if holding.is_dirty or holding.ended:
            self.group.settled(holding)
        return self._without_killers(taken) if holding.counts else taken

    def _without_killers(self, taken: list[Delivery]) -> list[Delivery]:
        """What was delivered too often goes to the failure destination from here: no handler need see it."""
        killers = [delivery for delivery in taken if delivery.deliveries > self._cap]
        self._in_hand += len(killers)
        for delivery in killers:
            burial = asyncio.get_running_loop().create_task(self._bury_killer(delivery))
            self._burials.add(burial)
            burial.add_done_callback(self._burials.discard)
        return [delivery for delivery in taken if delivery.deliveries <= self._cap]

    async def _bury_killer(self, delivery: Delivery) -> None:
        times = delivery.deliveries - 1
        reason = f"delivered {times} times without being settled: it may kill its process"
        dead = Settlement(delivery, Act.DEAD, reason=reason)
        log.error("%s: %s is dead: %s", self._source, delivery.token.position, reason)
        for attempt in itertools.count(1):
            (error,) = await self.settle([dead])
            if error is None or not delivery.token.out:
                return
            log.warning("%s: burying what was delivered %d times: %s", self._source, times, error)
            await self._clock.sleep(backoff.delay(attempt, 0.2, longest=60.0))

    async def stop(self) -> None:
        """Nothing new; leases are kept, so that what is in hand can be finished."""
        self._stopped = True
        self.group.stop()
        self._wakeup.wake()

    async def close(self) -> None:
        """The last checkpoints, then every lease is free."""
        self._stopped = True
        self._wakeup.wake()
        for burial in self._burials:
            burial.cancel()
        await self.group.close()
        self._closed = True

    def lags(self) -> list[Lag]:
        """How late each of its shards is."""
        now = self._clock.time()
        holdings = [work.holding for work in list(self.group.work.values())]
        late = [(holding.row.shard, holding.lag(now)) for holding in holdings]
        return [Lag(self._source, shard, seconds) for shard, seconds in late if seconds is not None]

    # -- settling

    async def settle(self, batch: Sequence[Settlement]) -> Sequence[Result]:
        """ACK moves the checkpoint, DEAD is written to the failure destination first, others stay as they are."""
        results: list[Result] = [None] * len(batch)
        dead: list[tuple[int, Settlement]] = []
        ours: dict[Holding, bool] = {}  # asked once for each shard, not once for each delivery
        for place, settlement in enumerate(batch):
            token: Token = settlement.delivery.token
            if not (token.out and self._is_ours(token.holding, ours)):
                results[place] = LeaseLost(f"{self._source}: this delivery is not ours to settle")
            elif settlement.act is _ACK:
                self._done(token)
            elif settlement.act is Act.DEAD:
                dead.append((place, settlement))
            else:
                self._release(token)
        for holding in ours:
            self.group.settled(holding)
        if dead:
            await self._bury(dead, results)
        self._wakeup.wake()
        return results

    async def _bury(self, dead: Sequence[tuple[int, Settlement]], results: list[Result]) -> None:
        errors = await self._failures.write([settlement for _, settlement in dead])
        for (place, settlement), error in zip(dead, errors, strict=True):
            results[place] = error
            token: Token = settlement.delivery.token
            if error is None and token.out:
                self._done(token)
                self.group.settled(token.holding)

    async def extend(self, batch: Sequence[Delivery], seconds: float) -> Sequence[Result]:
        """The worker renews the leases of its shards itself: this says which deliveries are still ours."""
        lost = LeaseLost(f"{self._source}: the lease of its shard is lost")
        ours: dict[Holding, bool] = {}
        tokens: list[Token] = [delivery.token for delivery in batch]
        return [None if token.out and self._is_ours(token.holding, ours) else lost for token in tokens]

    def _is_ours(self, holding: Holding, known: dict[Holding, bool]) -> bool:
        ours = known.get(holding)
        if ours is None:
            ours = known[holding] = not self.group.is_over(holding)
        return ours

    def _done(self, token: Token) -> None:
        token.out = False
        self._in_hand -= 1
        token.holding.done(token)

    def _release(self, token: Token) -> None:
        token.out = token.tried = False
        self._in_hand -= 1
        if not self._stopped:
            token.holding.give_back(token)

    # -- what the group tells

    def came(self) -> None:
        """There may be something to hand out."""
        self._wakeup.wake()

    def lost(self, token: Token, error: BusError) -> None:
        """It is somebody else's now."""
        if token.out:
            token.out = False
            self._in_hand -= 1
            if self.on_lost is not None and token.delivery is not None:
                self.on_lost(token.delivery, error)
            self._wakeup.wake()

    def failed(self, error: BusError) -> None:
        """The next `receive` says so."""
        self._failure = error
        self._wakeup.wake()
