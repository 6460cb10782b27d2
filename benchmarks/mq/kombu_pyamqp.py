"""kombu over py-amqp, as a Celery worker consumes: one thread, one acknowledgement a message."""

from __future__ import annotations

import kombu

from benchmarks.mq.payload import PREFETCH, Order
from benchmarks.mq.timing import Stretch


def consume(url: str, queue_name: str, count: int) -> None:
    """Receive, validate, call the handler, ack."""
    stretch, left = Stretch(count), count
    with kombu.Connection(url) as connection:
        channel = connection.channel()
        queue = kombu.Queue(queue_name, channel=channel, no_declare=True)

        def on_message(message: kombu.Message) -> None:
            nonlocal left
            Order.model_validate_json(message.body)
            message.ack()
            left -= 1

        consumer = kombu.Consumer(channel, [queue], on_message=on_message, auto_declare=False)
        consumer.qos(prefetch_count=PREFETCH)
        stretch.begin()
        with consumer:
            while left:
                connection.drain_events(timeout=30)
        stretch.end()
