"""A message as plain aio-pika writes it, and how it looks to plain aio-pika afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import aio_pika
from tests.slowness import slowness

TEXTS: Mapping[str, Any] = {"text": "a\u00fc\U0001f680"}
HEADERS: Mapping[str, Any] = {
    **TEXTS,
    "int": 7,
    "long": 1 << 40,
    "negative": -5,
    "yes": True,
    "float": 1.5,
    "price": Decimal("9.90"),
    "date": datetime(2026, 11, 27, 8, 30, tzinfo=UTC),
    "table": {"a": 1, "b": {"c": False}},
    "list": ["a", 1, None],
    "bytes": bytearray(b"\xff\x00\xfe"),
    "nothing": None,
}
BODY = b'\xff\x00{"number": 7}'
_PROPERTIES: Mapping[str, Any] = {
    "content_type": "application/x-theirs",
    "content_encoding": "binary",
    "priority": 3,
    "app_id": "theirs",
    "message_id": "m-1",
    "correlation_id": "c-1",
    "reply_to": "elsewhere",
    "type": "OrderPlaced",
    "timestamp": datetime(2026, 11, 26, 10, 0, tzinfo=UTC),
}


async def put(url: str, queue: str, headers: Mapping[str, Any] = HEADERS, **properties: Any) -> Mapping[str, object]:
    """Publish it; what a copy must keep."""
    given = {**_PROPERTIES, **properties}
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        message = aio_pika.Message(BODY, headers=dict(headers), expiration=3600, **given)
        await channel.default_exchange.publish(message, queue)
    return {"body": BODY, **given, **{f"header {name}": value for name, value in headers.items()}}


async def take(url: str, queue: str) -> Mapping[str, object]:
    """Take the one message that is there."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        place = await channel.get_queue(queue, ensure=False)
        async with asyncio.timeout(30.0 * slowness()), place.iterator() as messages:
            message = await anext(messages)
            await message.ack()
    properties = {name: getattr(message, name) for name in (*_PROPERTIES, "user_id", "expiration")}
    headers = {f"header {name}": value for name, value in message.headers.items()}
    return {"body": message.body, **properties, **headers}
