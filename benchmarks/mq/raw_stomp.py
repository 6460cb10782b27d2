"""Raw stomp.py as its documentation shows it: work is done in its listener, an ack per message, pipelined receipts."""

from __future__ import annotations

import threading
import uuid
from typing import Any
from urllib.parse import urlsplit

import stomp

from benchmarks.mq.payload import BATCH, BODY, HEADERS, PREFETCH, Order
from benchmarks.mq.timing import Stretch


def handle(order: Order) -> None:
    """What is done with an order: nothing."""


def _connect(url: str) -> Any:
    parts = urlsplit(url)
    connection = stomp.Connection12([(parts.hostname, parts.port)], vhost="/", auto_decode=False)
    connection.connect(parts.username, parts.password, wait=True)
    return connection


class _Consumer(stomp.ConnectionListener):
    def __init__(self, connection: Any, count: int) -> None:
        self._connection = connection
        self._left = count
        self.done = threading.Event()

    def on_message(self, frame: Any) -> None:
        handle(Order.model_validate_json(frame.body))
        self._connection.ack(frame.headers["ack"])
        self._left -= 1
        if not self._left:
            self.done.set()


async def consume(url: str, queue_name: str, count: int) -> None:
    """Receive, validate, handle, ack: all in stomp.py's thread, without asyncio."""
    connection, stretch = _connect(url), Stretch(count)
    consumer = _Consumer(connection, count)
    connection.set_listener("consumer", consumer)
    stretch.begin()
    headers = {"activemq.prefetchSize": str(PREFETCH), "prefetch-count": str(PREFETCH)}
    place = "/amq/queue/" if urlsplit(url).username else "/queue/"
    connection.subscribe(f"{place}{queue_name}", "1", ack="client-individual", headers=headers)
    consumer.done.wait()
    stretch.end()
    connection.disconnect()


class _Receipts(stomp.ConnectionListener):
    def __init__(self) -> None:
        self.left = 0
        self.done = threading.Event()

    def expect(self, count: int) -> None:
        self.left = count
        self.done.clear()

    def on_receipt(self, frame: Any) -> None:
        self.left -= 1
        if not self.left:
            self.done.set()


async def publish(url: str, queue_name: str, count: int) -> None:
    """Send in hundreds, wait for the hundred receipts."""
    connection, stretch, receipts = _connect(url), Stretch(count), _Receipts()
    connection.set_listener("receipts", receipts)
    place = "/amq/queue/" if urlsplit(url).username else "/queue/"
    stretch.begin()
    for start in range(0, count, BATCH):
        receipts.expect(BATCH)
        for number in range(start, start + BATCH):
            headers = {**HEADERS, "persistent": "true", "id-of-ours": str(uuid.uuid4()), "receipt": str(number)}
            connection.send(f"{place}{queue_name}", BODY, content_type="application/json", headers=headers)
        receipts.done.wait()
    stretch.end()
    connection.disconnect()
