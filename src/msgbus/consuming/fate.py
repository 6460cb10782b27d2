"""What becomes of each delivery between its receipt and its settlement: it carries out what the policy decided."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from msgbus.clock import Alarms, Call
from msgbus.consuming.policy import Policy
from msgbus.errors import LeaseLost
from msgbus.handlers.subscription import Subscription
from msgbus.lanes import Lanes
from msgbus.message import Act, Delivery, Settlement

_ACK, _RETRY = Act.ACK, Act.RETRY


class Fate:
    """The deliveries of one session.

    `in_hand` has all of them and when each came, from the receipt until the settlement has a result. Each is in one
    place of five: parked in its lane, `ready` for a worker, with a worker, held for a retry, or being settled. What
    is ready is in hand: one whose lease is lost is taken out of both.
    """

    def __init__(self, subscription: Subscription, policy: Policy, alarms: Alarms) -> None:
        self.in_hand: dict[Delivery, float] = {}
        self.ready: deque[Delivery] = deque()
        self._stats = subscription.stats
        self._ordered = subscription.source.ordered
        self._policy = policy
        self._alarms = alarms
        self._lanes: Lanes[Delivery] = Lanes()
        self._held: dict[Delivery, Call] = {}
        self._lost: set[Delivery] = set()  # while their handlers end
        self._stopping = False
        self._wake: Callable[[], None]
        self._interrupt: Callable[[Exception, Delivery], bool]
        self._settle: Callable[[Settlement], None]
        self._look_again: Callable[[], None]
        self._unsettled: Callable[[], int]
        self._drop: Callable[[Delivery], None]

    def join(
        self,
        *,
        wake: Callable[[], None],
        interrupt: Callable[[Exception, Delivery], bool],
        settle: Callable[[Settlement], None],
        look_again: Callable[[], None],
        unsettled: Callable[[], int],
        drop: Callable[[Delivery], None],
    ) -> None:
        """Meet the workers, the settler and the intake, which are made after it, since they report to it.

        `wake`: something is ready. `interrupt`: cancel a handler, False where it does not run. `look_again`: there
        may be room now. `unsettled`: how many wait for the server to take them back. `drop`: don't settle it.
        """
        self._unsettled, self._drop = unsettled, drop
        self._wake, self._interrupt, self._settle, self._look_again = wake, interrupt, settle, look_again

    @property
    def waiting(self) -> int:
        """How many in hand have had their turn and wait: for a retry, or for the broker to take them back."""
        return len(self._held) + self._unsettled()

    # -- what comes in

    def take(self, batch: Sequence[Delivery]) -> None:
        """What was received: to the workers, or behind others of its key."""
        self.in_hand.update(dict.fromkeys(batch, self._alarms.now()))
        self._stats.received += len(batch)
        if self._ordered:
            self.ready.extend(d for d in batch if d.lane is None or self._lanes.enter(d.lane, d))
        else:
            self.ready.extend(batch)
        self._wake()

    def take_late(self, batch: Sequence[Delivery]) -> None:
        """What came after the stop goes straight back."""
        self.in_hand.update(dict.fromkeys(batch, self._alarms.now()))
        self._stats.received += len(batch)
        self._release(batch)

    # -- what its handler made of it

    def finish(self, delivery: Delivery, settlement: Settlement) -> None:
        """Its handler has ended, and the policy has decided."""
        if self._lost:
            self._lost.discard(delivery)
        if settlement.act is _RETRY:
            self._retry(settlement)
            self._look_again()  # what waits takes no room
            return
        self._settle(settlement)
        if settlement.act is not _ACK:
            self._look_again()
        if delivery.lane is not None and (following := self._lanes.leave(delivery.lane)) is not None:
            self._follow(following)

    def _follow(self, delivery: Delivery) -> None:
        """The next of its key, for the worker that has just finished; its lease may have been lost while it waited."""
        if delivery in self.in_hand:
            self.ready.append(delivery)
        else:
            self._forget(delivery, is_head=True)

    def abandon(self, delivery: Delivery) -> None:
        """Its handler was cut off by a lost lease, and with it the turn of its key is lost: what waits goes back.

        If the lease is that of another one of its batch, it is given back too: nobody else would, while it is ours.
        """
        if delivery in self._lost:
            self._lost.discard(delivery)
            self._forget(delivery, is_head=True)
        else:
            self._give_back(Settlement(delivery, Act.RELEASE))

    def _retry(self, settlement: Settlement) -> None:
        """In place, held in hand, or given back: whichever keeps the order and the broker can."""
        delivery = settlement.delivery
        if self._stopping or not self._policy.must_hold(settlement):
            self._give_back(settlement)
            return
        delivery.attempt += 1
        delivery.headers = {**delivery.headers, **(settlement.headers or {})}
        self._held[delivery] = self._alarms.call(settlement.delay, lambda: self._resume(delivery))
        self._stats.retried += 1

    def _resume(self, delivery: Delivery) -> None:
        self._held.pop(delivery, None)
        self.ready.append(delivery)
        self._wake()

    def _give_back(self, settlement: Settlement) -> None:
        """To the broker, and with it all that waits behind it: order is kept only if they go together."""
        self._settle(self._policy.given_back(settlement))
        lane = settlement.delivery.lane
        if lane is not None:
            self._release_followers(lane)

    # -- what else may befall it

    def lost(self, delivery: Delivery, error: Exception) -> None:
        """Its lease can't be kept: cancel its handler, or forget it where it waits."""
        if self._interrupt(error, delivery):
            if isinstance(error, LeaseLost):
                self._lost.add(delivery)
            return  # `finish` or `abandon` is told when the handler has ended
        alarm = self._held.pop(delivery, None)
        is_head = alarm is not None or delivery in self.ready
        if alarm is not None:
            alarm.cancel()
        elif is_head:
            self.ready.remove(delivery)
        if isinstance(error, LeaseLost):
            self._forget(delivery, is_head=is_head)
        elif is_head:  # held for too long, unstarted
            self._give_back(Settlement(delivery, Act.RELEASE))

    def _forget(self, delivery: Delivery, *, is_head: bool) -> None:
        if self.in_hand.pop(delivery, None) is not None:
            self._stats.lost += 1
            self._drop(delivery)
        if is_head and delivery.lane is not None:
            self._release_followers(delivery.lane)
        self._look_again()

    def stop(self) -> None:
        """From now on nothing is held: what is unstarted goes back, and so does what is to be tried again."""
        self._stopping = True

    def release_unstarted(self) -> None:
        """In the order they came, so that a broker that puts them back one by one keeps it."""
        unstarted = {*self._held, *self.ready, *self._lanes.clear_all()}
        self.let_go()
        self.ready.clear()
        self._release([delivery for delivery in self.in_hand if delivery in unstarted])

    def let_go(self) -> None:
        """No held delivery comes back by itself any more."""
        for alarm in self._held.values():
            alarm.cancel()
        self._held.clear()

    def _release_followers(self, lane: str) -> None:
        """All that waits behind the head of a key goes back with it, but for what is not ours any more."""
        self._release([delivery for delivery in self._lanes.clear(lane) if delivery in self.in_hand])

    def _release(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self._settle(Settlement(delivery, Act.RELEASE))
