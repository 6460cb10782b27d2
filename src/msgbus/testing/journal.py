"""What a test asks of the past."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, overload

from msgbus import headers as h
from msgbus.handlers.decoding import decoder
from msgbus.message import Delivery, Message, Source
from msgbus.testing.recorder import Recorder
from msgbus.testing.records import Attempt, Outcome, Sent
from msgbus.topic import Queue, Rpc, Topic, type_name

T = TypeVar("T")
Target = Topic[T] | Queue[T] | Rpc[T, Any]
Handler = Callable[..., Any]


class Journal:
    """The records of a TestBus, by topic, queue or call, or by handler function; of all without an argument.

    Payloads are decoded when they are asked for, with the target's own codec.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._prefix = ""

    def messages(self, target: Target[T]) -> Sequence[Message[T]]:
        """What was published to a topic, sent to a queue or asked of a call, by whomever, with key and headers."""
        type_ = target.request if isinstance(target, Rpc) else target.type
        decode = decoder(repr(target), type_, target.codec)
        deliveries = [_as_delivery(sent) for sent in self._recorder.sent]
        return [Message(decode(delivery), delivery) for delivery in deliveries if self._is_for(delivery, target)]

    def published(self, target: Target[T]) -> Sequence[T]:
        """The payloads of `messages`."""
        return [message.payload for message in self.messages(target)]

    @overload
    def attempts(self, of: Target[T]) -> Sequence[Attempt[T]]: ...
    @overload
    def attempts(self, of: Handler | None = None) -> Sequence[Attempt[Any]]: ...
    def attempts(self, of: Target[Any] | Handler | None = None) -> Sequence[Attempt[Any]]:
        """Every start of a handler, in order: of one handler, of all handlers of a topic, queue or call, of all."""
        return [attempt for attempt in self._recorder.attempts if of is None or self._concerns(attempt, of)]

    @overload
    def handled(self, of: Target[T]) -> Sequence[T]: ...
    @overload
    def handled(self, of: Handler | None = None) -> Sequence[Any]: ...
    def handled(self, of: Target[Any] | Handler | None = None) -> Sequence[Any]:
        """The payloads that were handled without an error, once per group."""
        return [attempt.payload for attempt in self._ended(of, "handled")]

    @overload
    def retried(self, of: Target[T]) -> Sequence[Attempt[T]]: ...
    @overload
    def retried(self, of: Handler | None = None) -> Sequence[Attempt[Any]]: ...
    def retried(self, of: Target[Any] | Handler | None = None) -> Sequence[Attempt[Any]]:
        """The attempts that failed and were followed by another: `error`, `number`, `started`, `delay`."""
        return self._ended(of, "retried")

    @overload
    def dead(self, of: Target[T]) -> Sequence[Attempt[T]]: ...
    @overload
    def dead(self, of: Handler | None = None) -> Sequence[Attempt[Any]]: ...
    def dead(self, of: Target[Any] | Handler | None = None) -> Sequence[Attempt[Any]]:
        """The attempts after which a message was dead-lettered: `error`, `reason`, `number`, `delivery`."""
        return self._ended(of, "dead")

    @overload
    def skipped(self, of: Target[T]) -> Sequence[Attempt[T]]: ...
    @overload
    def skipped(self, of: Handler | None = None) -> Sequence[Attempt[Any]]: ...
    def skipped(self, of: Target[Any] | Handler | None = None) -> Sequence[Attempt[Any]]:
        """What came to a subscription and was not shown to its handler: by `Select`, or by a middleware."""
        return self._ended(of, "skipped")

    def _ended(self, of: Target[Any] | Handler | None, outcome: Outcome) -> Sequence[Attempt[Any]]:
        return [
            attempt
            for attempt in self._recorder.attempts
            if attempt.outcome == outcome and (of is None or self._concerns(attempt, of))
        ]

    def _concerns(self, attempt: Attempt[Any], of: Target[Any] | Handler) -> bool:
        if isinstance(of, (Topic, Queue, Rpc)):
            return self._is_for(attempt.delivery, of)
        return attempt.registration.bound.function == of  # a bound method is a new object each time it is named

    def _is_for(self, delivery: Delivery, target: Target[Any]) -> bool:
        kind = "topic" if isinstance(target, Topic) else "queue"
        if (delivery.source.kind, delivery.source.name) != (kind, self._prefix + target.name):
            return False
        if not isinstance(target, Topic) or not target.narrowed:
            return True
        return delivery.headers.get(h.TYPE) == type_name(target.type)


def _as_delivery(sent: Sent) -> Delivery:
    out = sent.out
    source = Source(out.address.kind, out.address.name, out.address.group)
    return Delivery(out.body, source, out.headers, lane=out.key, sent_at=sent.at)
