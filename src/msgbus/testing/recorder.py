"""Listens to a bus at its seams, for a TestBus."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from msgbus import headers as h
from msgbus.broker import Result
from msgbus.clock import Clock
from msgbus.consuming.policy import Policy
from msgbus.consuming.runner import Runner
from msgbus.handlers.decoding import Decode, decoder
from msgbus.handlers.middleware import Handle, HandleBatch
from msgbus.handlers.registration import Registration
from msgbus.handlers.subscription import Subscription
from msgbus.message import Act, Delivery, Outgoing, Receipt, Settlement
from msgbus.options import OnDead
from msgbus.publishing.middleware import SendNext
from msgbus.testing.records import RUN, Attempt, Outcome, Run, Sent
from msgbus.topic import Rpc, Topic, type_name

_LATE = 0.011  # seconds that a request's deadline may ring late: twice the grain of Alarms, and rounding


class Recorder:
    """Listens at a bus's seams: a publish middleware, and what each subscription calls."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.version = 0  # changes whenever something happens
        self.sent: list[Sent] = []
        self.attempts: list[Attempt[Any]] = []
        self.running: dict[Run, None] = {}
        self.sending = 0
        self.hooks = 0  # `on_dead` hooks that run
        self._asked: dict[str, tuple[Run | None, float]] = {}  # requests: who asks, and until when
        self._dues: list[float] = []
        self._open: dict[Delivery, Attempt[Any]] = {}

    def next_due(self) -> float | None:
        """When the next delayed message or retry is due; None where none is known."""
        now = self.clock.now()
        self._dues = [due for due in self._dues if due > now]
        return min(self._dues, default=None)

    def asking(self, seconds: float = 0.0) -> list[Run | None]:
        """Who will still wait for a reply so many seconds from now, if none comes: a handler, or None for the test."""
        then = self.clock.time() + seconds
        return [run for run, until in self._asked.values() if until >= then]

    # -- sending

    async def publish(self, batch: Sequence[Outgoing], send: SendNext) -> Sequence[Result]:
        """The innermost publish middleware: it sees what really goes to the broker."""
        run = RUN.get()
        self._ask(batch, run)
        with self._waiting(run):
            results = await send(batch)
        now = self.clock.now()
        for out, result in zip(batch, results, strict=True):
            if isinstance(result, Receipt):
                self.sent.append(Sent(out, now))
                if out.delay > 0:
                    self._dues.append(now + out.delay)
        return results

    def _ask(self, batch: Sequence[Outgoing], run: Run | None) -> None:
        """A request is open until its reply is on its way, or its deadline has passed."""
        for out in batch:
            correlation = out.headers.get(h.CORRELATION, "")
            if out.address.kind == "reply":
                self._asked.pop(correlation, None)
            elif h.REPLY_TO in out.headers:
                expires = float("inf") if out.expires_at is None else out.expires_at
                self._asked[correlation] = (run, expires + _LATE)

    @contextmanager
    def _waiting(self, run: Run | None) -> Iterator[None]:
        self.version += 1
        self.sending += 1
        if run is not None:
            run.sending += 1
        try:
            yield
        finally:
            self.version += 1
            self.sending -= 1
            if run is not None:
                run.sending -= 1

    # -- handling

    async def arrived(self, delivery: Delivery, handle: Handle) -> None:
        """The outermost consume middleware: whether the handler will see it is open."""
        self._skipped(delivery)
        await handle(delivery)

    async def reached(self, delivery: Delivery, handle: Handle) -> None:
        """The innermost consume middleware: what it does not see, another one has dropped."""
        if (attempt := self._open.get(delivery)) is not None:
            attempt.seen = True
        await handle(delivery)

    def _skipped(self, delivery: Delivery) -> None:
        if (attempt := self._open.get(delivery)) is not None:
            attempt.seen = False

    def watch(self, runner: Runner, members: Sequence[Registration]) -> None:
        """Listen to a subscription that has not begun to receive."""
        watched, subscription = _Members(members), runner.subscription
        subscription.stats.on_skip = self._skipped
        runner.policy = _WatchedPolicy(self, subscription, watched)
        subscription.on_dead = [self._around_hook(hook) for hook in subscription.on_dead]
        if subscription.handle_batch is None:
            subscription.handle = self._around(subscription.handle, watched)
        else:
            subscription.handle_batch = self._around_batch(subscription.handle_batch, watched)

    def _around(self, following: Handle, members: _Members) -> Handle:
        async def handle(delivery: Delivery) -> None:
            attempt = self._attempt(delivery, members)
            attempts = [] if attempt is None else [attempt]  # none: skipped, no member of the group takes it
            with self._running(attempts):
                await following(delivery)
                self._end(attempts, [None])

        return handle

    def _around_batch(self, following: HandleBatch, members: _Members) -> HandleBatch:
        async def handle(batch: Sequence[Delivery]) -> Sequence[Exception | None]:
            attempts = [attempt for d in batch if (attempt := self._attempt(d, members)) is not None]
            with self._running(attempts):
                results = await following(batch)
                self._end(attempts, results)
            return results

        return handle

    def _attempt(self, delivery: Delivery, members: _Members) -> Attempt[Any] | None:
        chosen = members.of(delivery)
        if chosen is None:
            return None
        registration, decode = chosen
        attempt: Attempt[Any] = Attempt(
            delivery=delivery,
            registration=registration,
            number=delivery.attempt,
            started=self.clock.now(),
            decode=decode,
        )
        self.attempts.append(attempt)
        self._open[delivery] = attempt
        return attempt

    @contextmanager
    def _running(self, attempts: Sequence[Attempt[Any]]) -> Iterator[None]:
        run = Run(attempts[0].registration.bound.name if attempts else "", attempts)
        self.running[run] = None
        self.version += 1
        token = RUN.set(run)
        try:
            yield
        except BaseException as error:
            self._end(attempts, [error if isinstance(error, Exception) else None] * len(attempts), "failed")
            raise
        finally:
            RUN.reset(token)
            del self.running[run]
            self.version += 1

    def _end(
        self,
        attempts: Sequence[Attempt[Any]],
        errors: Sequence[Exception | None],
        otherwise: Outcome = "handled",
    ) -> None:
        now = self.clock.now()
        for attempt, error in zip(attempts, errors, strict=False):
            attempt.ended, attempt.error = now, error
            if error is not None:
                attempt.outcome = "failed"
            else:
                attempt.outcome = otherwise if attempt.seen or otherwise != "handled" else "skipped"
            if attempt.outcome in ("handled", "skipped"):
                self._open.pop(attempt.delivery, None)

    def decided(self, delivery: Delivery, error: Exception, settlement: Settlement | None, members: _Members) -> None:
        """The bus has decided what becomes of a failed attempt."""
        self.version += 1
        attempt = self._open.pop(delivery, None) or self._attempt(delivery, members)
        if attempt is None:
            return
        self._open.pop(delivery, None)
        attempt.error = error
        attempt.ended = self.clock.now()
        if settlement is None:
            attempt.outcome = "lost"
        elif settlement.act is Act.DEAD:
            attempt.outcome, attempt.reason = "dead", settlement.reason
        else:
            attempt.outcome, attempt.delay = "retried", settlement.delay
            self._dues.append(attempt.ended + settlement.delay)

    def _around_hook(self, following: OnDead) -> OnDead:
        async def hook(delivery: Delivery, error: Exception) -> None:
            self.hooks += 1
            self.version += 1
            try:
                await following(delivery, error)
            finally:
                self.hooks -= 1
                self.version += 1

        return hook


class _Members:
    """The handlers that share a subscription: which of them takes a delivery, and how it is decoded."""

    def __init__(self, members: Sequence[Registration]) -> None:
        self._members = [(member, _decoder_of(member)) for member in members]

    def of(self, delivery: Delivery) -> tuple[Registration, Decode] | None:
        for member, decode in self._members:
            target = member.target
            if not isinstance(target, Topic) or not target.narrowed:
                return member, decode
            if type_name(target.type) == delivery.headers.get(h.TYPE, ""):
                return member, decode
        return None


class _WatchedPolicy(Policy):
    """The subscription's own policy, which tells the recorder what it decided."""

    def __init__(self, recorder: Recorder, subscription: Subscription, members: _Members) -> None:
        super().__init__(subscription, recorder.clock.time)
        self._recorder = recorder
        self._members = members

    def failed(self, delivery: Delivery, error: Exception) -> Settlement | None:
        """As Policy.failed."""
        settlement = super().failed(delivery, error)
        self._recorder.decided(delivery, error, settlement, self._members)
        return settlement


def _decoder_of(registration: Registration) -> Decode:
    target = registration.target
    return decoder(repr(target), target.request if isinstance(target, Rpc) else target.type, target.codec)
