"""Keeps one subscription open: receiver after receiver, for as long as the bus consumes."""

from __future__ import annotations

import asyncio
import logging

from msgbus import backoff
from msgbus.broker import Receiver
from msgbus.clock import Alarms, Clock
from msgbus.consuming.policy import Policy
from msgbus.consuming.session import Session
from msgbus.errors import PASSING, Disconnected, ReceiverClosed
from msgbus.handlers.subscription import Subscription
from msgbus.publishing.link import Link

log = logging.getLogger("msgbus.consume")


class Runner:
    """Opens a receiver, runs a Session on it, and again when it dies. Anything but a dead receiver ends it."""

    def __init__(self, subscription: Subscription, link: Link, clock: Clock, alarms: Alarms) -> None:
        self.subscription = subscription
        self.policy = Policy(subscription, clock.time)
        self.link = link
        self.session: Session | None = None
        self.error: BaseException | None = None
        self._clock = clock
        self._alarms = alarms
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Until stopped. Raises what no new receiver can cure."""
        self._task = asyncio.current_task()
        try:
            await self._run()
        except Exception as error:
            self.error = error
            raise

    async def _run(self) -> None:
        source, prefetch = self.subscription.source, self.subscription.prefetch
        failures = 0
        while not self._stopping:
            generation = self.link.generation
            try:
                async with self.link.broker.receiver(source, prefetch=prefetch) as receiver:
                    failures = 0
                    await self._run_session(receiver)
            except Disconnected as error:
                self._say(error)
                await self.link.restore(generation)
            except (ReceiverClosed, *PASSING) as error:
                self._say(error)
                failures += 1
                await self._clock.sleep(backoff.delay(failures, 0.1, longest=10.0))

    async def _run_session(self, receiver: Receiver) -> None:
        self.session = Session(self.subscription, self.policy, receiver, self._clock, self._alarms)
        try:
            await self.session.run()
        finally:
            self.session = None

    async def stop(self, grace: float) -> None:
        """Soft, then hard after `grace` seconds; see Session.stop."""
        self._stopping = True
        if self.session is not None:
            await self.session.stop(grace)
        elif self._task is not None:  # between two receivers: there is nothing in hand
            self._task.cancel()

    def _say(self, error: Exception) -> None:
        if not self._stopping:
            log.warning("%s: receiver lost, opening another one: %s", self.subscription.source, error)
