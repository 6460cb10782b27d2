"""What a handler sees of a message; addresses and sources as text."""

from __future__ import annotations

from msgbus import Message
from msgbus import headers as h
from msgbus.message import Address, Delivery, Source

SOURCE = Source("topic", "orders", "billing")


def test_a_message_of_ours() -> None:
    headers = {
        h.ID: "1",
        h.KEY: "k",
        h.TIME: "2026-01-01T00:00:00Z",
        h.TYPE: "Order",
        h.CORRELATION: "c",
        h.CAUSATION: "b",
        "tenant": "t",
    }
    message = Message("payload", Delivery(b"", SOURCE, headers, attempt=3, raw="native"))
    assert (message.payload, message.id, message.key, message.attempt) == ("payload", "1", "k", 3)
    assert (message.time, message.type) == ("2026-01-01T00:00:00Z", "Order")
    assert (message.correlation_id, message.causation_id) == ("c", "b")
    assert message.headers["tenant"] == "t"
    assert (message.source, message.raw) == (SOURCE, "native")
    assert repr(message) == "Message('payload', id='1', attempt=3)"


def test_a_foreign_message_has_empty_places() -> None:
    message = Message(b"", Delivery(b"", SOURCE, {}, lane="lane"))
    assert (message.id, message.time, message.type, message.causation_id, message.correlation_id) == ("",) * 5
    assert message.key == "lane"


def test_addresses_say_what_they_are() -> None:
    assert str(Address("topic", "orders")) == "topic orders"
    assert str(SOURCE) == "topic orders (group billing)"
    assert SOURCE.address == Address("topic", "orders", "billing")
    assert str(Source("queue", "work")) == "queue work"


def test_where_a_dead_letter_comes_from() -> None:
    assert SOURCE.origin == "topic/orders/billing"
    assert Source("queue", "work").origin == "queue/work"


def test_deliveries_and_messages_are_themselves_alone() -> None:
    one, other = Delivery(b"", SOURCE, {}), Delivery(b"", SOURCE, {})
    assert one != other
    assert len({one, other}) == 2
