"""Peers on the same payloads: publish to handled, in one process, without a server.

FastStream has no embedded broker, so its own path is taken as it is (publish with its middlewares, encode, parse,
decode, dependency injection, validation, handler, acknowledgement), and only the wire between is replaced: its
test producer, less the mocks, which would cost ten times the path. aio-pika's share of it is measured apart.
taskiq has an InMemoryBroker. Both are configured as their documentation advises for speed: no logger.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import aiormq
from aio_pika import IncomingMessage
from faststream._internal.testing.broker import change_producer
from faststream.rabbit import RabbitBroker, TestRabbitBroker
from faststream.rabbit.parser import AioPikaParser
from faststream.rabbit.testing import FakeProducer
from pamqp import commands as spec
from pamqp.header import ContentHeader
from pydantic import BaseModel
from taskiq import InMemoryBroker

from benchmarks.core.harness import Run

Close = Callable[[], Awaitable[None]]
Make = Callable[[], Awaitable[tuple[Run, Close]]]


class _Incoming(IncomingMessage):
    """aio-pika's message as its channel would build it; acknowledging it writes nothing."""

    async def ack(self, multiple: bool = False) -> None: ...


def _delivered(body: bytes, message: Any) -> _Incoming:
    properties = spec.Basic.Properties(
        content_type=message.content_type,
        headers=message.headers,
        correlation_id=message.correlation_id,
        message_id=message.message_id,
        timestamp=message.timestamp,
    )
    return _Incoming(
        aiormq.abc.DeliveredMessage(
            delivery=spec.Basic.Deliver(consumer_tag="c", delivery_tag=1, exchange="", routing_key="bench"),
            header=ContentHeader(properties=properties),
            body=body,
            channel=None,  # type: ignore[arg-type]
        )
    )


class _Wire(FakeProducer):
    """Hands the encoded message straight to the subscriber."""

    async def publish(self, cmd: Any) -> None:
        message = await AioPikaParser.encode_message(
            message=cmd.body,
            correlation_id=cmd.correlation_id,
            headers=cmd.headers,
            serializer=self.broker.config.fd_config._serializer,
            codec=self.codec,
        )
        for subscriber in self.subscribers:
            await subscriber.process_message(_delivered(message.body, message))


def faststream(payload: BaseModel) -> Make:
    """One publish after the other; each is handled before the next."""

    async def make() -> tuple[Run, Close]:
        broker = RabbitBroker(logger=None)
        kind = type(payload)

        async def handle(message: Any) -> None: ...

        handle.__annotations__["message"] = kind
        broker.subscriber("bench")(handle)
        test = TestRabbitBroker(broker)
        await test.__aenter__()
        change = change_producer(broker.config.broker_config, _Wire(broker, [broker]))
        change.__enter__()

        async def run(count: int) -> None:
            for _ in range(count):
                await broker.publish(payload, "bench")

        async def close() -> None:
            change.__exit__(None, None, None)
            await test.__aexit__(None, None, None)

        return run, close

    return make


def aio_pika(payload: BaseModel) -> Make:
    """What aio-pika's two message objects cost: to be taken off FastStream's figure."""

    async def make() -> tuple[Run, Close]:
        async def run(count: int) -> None:
            for _ in range(count):
                message = await AioPikaParser.encode_message(message=b"x", content_type="application/json")
                _delivered(message.body, message)

        async def close() -> None: ...

        return run, close

    return make


def taskiq(payload: BaseModel) -> Make:
    """`kiq` on the InMemoryBroker, awaited in place: its cheapest mode."""

    async def make() -> tuple[Run, Close]:
        broker = InMemoryBroker(await_inplace=True)

        async def handle(message: Any) -> None: ...

        handle.__annotations__["message"] = type(payload)
        task: Any = broker.register_task(handle, task_name="bench")
        await broker.startup()

        async def run(count: int) -> None:
            for _ in range(count):
                await task.kiq(payload)

        return run, broker.shutdown

    return make
