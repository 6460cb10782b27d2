"""The connections of one broker: one publishes, and every receiver has its own; each to the first host that answers.

A receiver's connection is to STOMP what a channel is to AMQP: its end gives everything unsettled back, in order, and
an ERROR that closes it hurts nobody else. A server that makes publishers wait stops reading from their connection
alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from msgbus.brokers.mq.connections import Failover, Reopened
from msgbus.brokers.mq.trial import Trial
from msgbus.brokers.stomp.codec import Frame
from msgbus.brokers.stomp.conversation import Conversation
from msgbus.brokers.stomp.lean import LeanLine
from msgbus.brokers.stomp.settings import Target
from msgbus.brokers.stomp.wire import Line
from msgbus.clock import Clock
from msgbus.errors import BusError, Disconnected, Unavailable, missing_extra

Greet = Callable[[Conversation], Awaitable[None]]


class Wires:
    """Opens connections. `publishing`: the one that publishes, opened again when it is lost; `greet` meets each."""

    def __init__(self, target: Target, clock: Clock, greet: Greet) -> None:
        self._target = target
        self._clock = clock
        self._greet = greet
        self._hosts = Failover(target.hosts, target)
        self.publishing = Reopened(target, self._greeted)
        self._trial = Trial()

    async def publish(self, frames: Sequence[Frame], *, together: bool) -> Sequence[BusError | None]:
        """Send and wait for all receipts; see Conversation.publish."""
        conversation = self.publishing.alive()
        return await self._trial.publish(frames, partial(conversation.publish, together=together))

    async def another(self) -> Conversation:
        """A connection more. Raises Disconnected only where the publishing one is gone too."""
        self.publishing.alive()
        try:
            return await self._connect()
        except Disconnected as error:
            self.publishing.alive()
            raise Unavailable(f"no other connection: {error}") from error

    async def _greeted(self) -> Conversation:
        conversation = await self._connect()
        try:
            await self._greet(conversation)
        except BaseException:
            conversation.abandon()
            raise
        return conversation

    async def _connect(self) -> Conversation:
        return await self._hosts.open(lambda host: Conversation(self._line(host)))

    def _line(self, host: tuple[str, int]) -> Line:
        if self._target.options.client == "stomp.py":
            try:
                from msgbus.brokers.stomp.client import ClientLine  # noqa: PLC0415 - the lean wire needs no stomp.py
            except ModuleNotFoundError as error:
                raise missing_extra("client=stomp.py", error, "stomp") from error
            return ClientLine(self._target, host, self._clock)
        return LeanLine(self._target, host, self._clock)
