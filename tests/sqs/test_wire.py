"""What a message looks like in SQS and SNS, and what foreign ones look like to us."""

import base64
import json
from typing import Any

import pytest

from msgbus import headers as h
from msgbus.brokers.sqs import wire
from msgbus.envelope.opening import open_delivery
from msgbus.errors import DecodeError, Refused
from msgbus.message import Address, Delivery, Outgoing, Source

SOURCE = Source("queue", "work")
POINTER = wire.POINTER + b',{"s3BucketName":"b","s3Key":"k"}]'


def out(body: bytes = b"{}", key: str | None = None, **headers: str) -> Outgoing:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Outgoing(Address("queue", "work"), "id-1", body, named, key)


def delivered(body: str, attributes: dict[str, Any] | None = None, **system: str) -> Delivery:
    message = {"MessageId": "m", "ReceiptHandle": "r", "Body": body, "Attributes": system}
    if attributes is not None:
        message["MessageAttributes"] = attributes
    return wire.delivery_of(message, SOURCE, wire.Token(None, message, 0.0), None, unwrap=True)


# -- sending


def test_headers_are_attributes() -> None:
    attributes, size = wire.attributes_of(out(kind="caf\u00e9"))
    assert attributes == {"kind": {"DataType": "String", "StringValue": "caf\u00e9"}}
    assert size == len("kind") + len("caf\u00e9".encode())


@pytest.mark.parametrize("value", ["", "a\x00b", "\x1b", "\ud800", "\uffff"])
def test_what_an_attribute_can_not_hold_is_packed(value: str) -> None:
    attributes, size = wire.attributes_of(out(odd=value, kind="plain"))
    assert set(attributes) == {"kind", h.PACKED}
    assert json.loads(attributes[h.PACKED]["StringValue"]) == {"odd": value}
    assert size == sum(len(name) + len(each["StringValue"]) for name, each in attributes.items())


def test_it_is_packed_with_what_is_packed_already() -> None:
    attributes, size = wire.attributes_of(out(odd="", msgbus='{"a":"1"}'))
    assert json.loads(attributes[h.PACKED]["StringValue"]) == {"a": "1", "odd": ""}
    assert size == len(h.PACKED) + len(attributes[h.PACKED]["StringValue"])


@pytest.mark.parametrize("value", ["tab\t", "two\nlines", "\U0001f680", "\u00a0"])
def test_what_it_can_hold_is_not(value: str) -> None:
    assert set(wire.attributes_of(out(kind=value))[0]) == {"kind"}


def test_a_body_in_s3_says_its_size_as_amazons_client_wants_it() -> None:
    packed = json.dumps({wire.SIZE_ATTRIBUTE: "300000"})
    attributes, _ = wire.attributes_of(out(POINTER, **{h.PACKED: packed}))
    assert attributes[wire.SIZE_ATTRIBUTE] == {"DataType": "Number", "StringValue": "300000"}


def test_an_empty_body_has_a_stand_in() -> None:
    assert wire.text_of(out(b"")) == wire.EMPTY
    assert delivered(wire.EMPTY).body == b""


def test_a_body_that_is_no_text_is_refused() -> None:
    with pytest.raises(Refused, match="queue work: the body is declared as text and is not UTF-8"):
        wire.text_of(out(b"\xff"))


def test_group_ids() -> None:
    assert wire.ordering(out(key="c"), fifo=False, fair=True) == {"MessageGroupId": "c"}
    assert wire.ordering(out(key="c"), fifo=False, fair=False) == {}
    assert wire.ordering(out(), fifo=False, fair=True) == {}
    fifo = wire.ordering(out(key="c"), fifo=True, fair=True)
    assert fifo == {"MessageGroupId": "c", "MessageDeduplicationId": "id-1"}


def test_a_resend_has_a_deduplication_id_of_its_own() -> None:
    again = out(key="c")
    again.dedup_id = "id-1:1"
    assert wire.ordering(again, fifo=True, fair=True)["MessageDeduplicationId"] == "id-1:1"


def test_a_fifo_queue_without_a_key_is_refused() -> None:
    with pytest.raises(Refused, match="queue work: keeps order by key, and this message has none; give key="):
        wire.ordering(out(), fifo=True, fair=True)


# -- receiving


def test_attributes_are_headers() -> None:
    attributes = {
        "kind": {"DataType": "String", "StringValue": "x"},
        "number": {"DataType": "Number.int", "StringValue": "3"},
        "raw": {"DataType": "Binary", "BinaryValue": b"\x00"},
    }
    delivery = delivered("{}", attributes, ApproximateReceiveCount="3", SentTimestamp="1500", MessageGroupId="g")
    assert delivery.headers == {"kind": "x", "number": "3", "raw": "AA=="}
    assert (delivery.attempt, delivery.deliveries, delivery.sent_at, delivery.lane) == (3, 3, 1.5, None)
    assert delivery.raw["MessageAttributes"]["raw"]["BinaryValue"] == b"\x00"


def test_the_group_is_the_lane_where_order_counts() -> None:
    message = {"MessageId": "m", "ReceiptHandle": "r", "Body": "x", "Attributes": {"MessageGroupId": "g"}}
    source = Source("queue", "work", ordered=True)
    delivery = wire.delivery_of(message, source, wire.Token(None, message, 0.0), 2, unwrap=True)
    assert (delivery.lane, delivery.attempt, delivery.deliveries) == ("g", 2, 1)


NOTIFICATION = {
    "Type": "Notification",
    "MessageId": "sns-1",
    "TopicArn": "arn:aws:sns:eu-west-1:123456789012:orders",
    "Message": '{"a": 1}',
    "Timestamp": "2026-11-23T00:00:00.000Z",
    "SignatureVersion": "1",
}


def test_a_notification_of_sns_is_opened() -> None:
    delivery = delivered(json.dumps(NOTIFICATION))
    assert delivery.body == b'{"a": 1}'
    assert delivery.headers == {h.ID: "sns-1", h.TIME: "2026-11-23T00:00:00.000Z"}


def test_what_msgbus_published_is_found_in_it() -> None:
    given = {
        h.PACKED: {"Type": "String", "Value": '{"ce-id":"ours"}'},
        "raw": {"Type": "Binary", "Value": "AA=="},
        "n": {"Type": "Number", "Value": "3"},
    }
    delivery = delivered(json.dumps({**NOTIFICATION, "MessageAttributes": given}))
    assert delivery.headers == {h.PACKED: '{"ce-id":"ours"}', "n": "3", "raw": "AA=="}


def test_an_event_of_eventbridge_is_opened() -> None:
    event = {
        "version": "0",
        "id": "e-1",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": "123456789012",
        "time": "2026-11-23T00:00:00Z",
        "region": "eu-west-1",
        "resources": [],
        "detail": {"bucket": {"name": "b"}, "price": 1.10, "text": "gr\u00fc\u00df"},
    }
    delivery = delivered(json.dumps(event))
    assert delivery.body.decode() == '{"bucket":{"name":"b"},"price":1.1,"text":"gr\u00fc\u00df"}'
    assert delivery.headers[h.TYPE] == "Object Created"
    assert (delivery.headers[h.ID], delivery.headers[h.SOURCE]) == ("e-1", "aws.s3")


@pytest.mark.parametrize(
    "body",
    [
        '{"TopicArn": 1',
        '{"TopicArn": "x", "Message": "y"}',
        '{"detail-type": "x", "detail": {}}',
        '{"Type": "Notification", "TopicArn": "x", "Message": {"no": "text"}}',
        '["TopicArn"]',
        '{"a": "detail-type"}',
    ],
)
def test_what_only_looks_like_an_envelope_is_left_alone(body: str) -> None:
    assert delivered(body).body.decode() == body


def test_a_message_with_attributes_is_no_envelope() -> None:
    body = json.dumps(NOTIFICATION)
    assert delivered(body, {"kind": {"DataType": "String", "StringValue": "x"}}).body.decode() == body


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("MessageAttributes", "a", {"StringValue": 5}),
        ("Attributes", "MessageGroupId", []),
        ("Attributes", "MessageGroupId", 7),
    ],
)
def test_what_is_no_text_is_the_messages_fault(part: str, name: str, value: object) -> None:
    message: dict[str, Any] = {"MessageId": "m", "ReceiptHandle": "r", "Body": "{}", part: {name: value}}
    delivery = wire.delivery_of(
        message, Source("queue", "q", ordered=True), wire.Token(None, message, 0.0), None, unwrap=True
    )
    assert isinstance(delivery.fault, DecodeError)
    assert (dict(delivery.headers), delivery.lane, delivery.body) == ({}, None, b"{}")


def test_a_count_of_receives_that_cannot_be_is_one() -> None:
    message = {"MessageId": "m", "ReceiptHandle": "r", "Body": "{}", "Attributes": {"ApproximateReceiveCount": "-3"}}
    delivery = wire.delivery_of(message, Source("queue", "q"), wire.Token(None, message, 0.0), None, unwrap=True)
    assert (delivery.attempt, delivery.deliveries, delivery.fault) == (1, 1, None)


# -- what others write


def test_a_body_that_is_only_what_stands_for_nothing_survives() -> None:
    message = out(wire.EMPTY.encode(), msgbus='{"ce-id":"1"}', content_type="text/plain")
    attributes, _ = wire.attributes_of(message)
    delivery = delivered(wire.text_of(message), attributes)
    open_delivery(delivery)
    assert (delivery.body.decode(), h.ENCODING in delivery.headers) == (wire.EMPTY, False)


def jms(kind: str, body: str, **attributes: str) -> Delivery:
    given = {"JMS_SQSMessageType": kind, **attributes}
    return delivered(body, {name: {"DataType": "String", "StringValue": value} for name, value in given.items()})


def test_a_jms_message_has_its_correlation_and_where_to_answer() -> None:
    delivery = jms(
        "text", "a", JMS_SQSCorrelationID="c", JMS_SQSReplyToQueueURL="http://q", JMS_SQSReplyToQueueName="q"
    )
    known = {name: delivery.headers[name] for name in (h.ID, h.CORRELATION, h.REPLY_TO, "JMS_SQSReplyToQueueName")}
    assert known == {h.ID: "ID:m", h.CORRELATION: "c", h.REPLY_TO: "http://q", "JMS_SQSReplyToQueueName": "q"}
    assert delivery.body == b"a"


@pytest.mark.parametrize("body", [b"", b"\xff\x00", b"x" * 1000])
def test_a_jms_message_of_bytes_is_those(body: bytes) -> None:
    assert jms("byte", base64.b64encode(body).decode() or wire.EMPTY).body == body


def test_a_jms_message_of_bytes_that_are_none_is_damaged() -> None:
    delivery = jms("byte", "no base64!")
    assert isinstance(delivery.fault, DecodeError)
    assert "no base64" in str(delivery.fault)


def notification(message: str, **more: Any) -> str:
    arn = "arn:aws:sns:us-east-1:1:t"
    return json.dumps({"Type": "Notification", "MessageId": "s", "TopicArn": arn, "Message": message, **more})


EVENT = {"id": "e", "detail-type": "Placed", "source": "shop", "time": "2026-11-27T00:00:00Z", "detail": {"number": 1}}


def test_an_event_in_a_notification_is_opened_layer_by_layer() -> None:
    binary = {"Type": "Binary", "Value": "AA=="}
    attributes = {"b": binary, "n": {"Type": "Number", "Value": "7"}, h.PACKED: binary}
    delivery = delivered(notification(json.dumps(EVENT), Subject="Hello", MessageAttributes=attributes))
    assert json.loads(delivery.body) == {"number": 1}
    assert (delivery.headers[h.ID], delivery.headers[h.TYPE], delivery.headers[h.TIME]) == (
        "e",
        "Placed",
        EVENT["time"],
    )
    assert (delivery.headers["subject"], delivery.headers["b"], delivery.headers["n"]) == ("Hello", "AA==", "7")


def test_what_an_event_carries_is_not_taken_for_an_envelope() -> None:
    inner = {**EVENT, "id": "inner"}
    delivery = delivered(notification(json.dumps({**EVENT, "detail": inner})))
    assert (delivery.headers[h.ID], json.loads(delivery.body)) == ("e", inner)


def test_a_payload_of_ours_in_a_notification_is_not_taken_for_an_envelope() -> None:
    packed = {h.PACKED: {"Type": "String", "Value": '{"ce-id":"1"}'}}
    delivery = delivered(notification(json.dumps(EVENT), MessageAttributes=packed))
    assert json.loads(delivery.body) == EVENT


def test_envelopes_in_each_other_without_an_end_are_damaged() -> None:
    body = "{}"
    for _ in range(6):
        body = notification(body)
    assert "in each other" in str(delivered(body).fault)
