"""What a raw client may put into a queue, and msgbus would never write: odd attributes, envelopes that lie."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from msgbus import headers as h
from msgbus.brokers.aws import AwsClient, AwsSettings
from msgbus.brokers.sqs.names import queue_name
from msgbus.brokers.sqs.wire import OLD_POINTER, POINTER, SIZE_ATTRIBUTE
from msgbus.message import Source
from msgbus.testing.conformance.oddities import FORGED

Odd = Mapping[str, tuple[str, Mapping[str, Any]]]
"""By what is odd with it: the body, and the message attributes."""

_BODY = '{"key": "odd", "number": 0}'
_MEGABYTE = 1024 * 1024  # with which SQS takes no more


def string(value: str, kind: str = "String") -> dict[str, str]:
    """A message attribute."""
    return {"DataType": kind, "StringValue": value}


def _packed(**headers: object) -> dict[str, Any]:
    return {h.PACKED: string(json.dumps(headers))}


SNS = {"Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:us-east-1:1:t", "Message": '{"number": 1}'}
EVENT = {"id": "e", "detail-type": "t", "source": "s", "detail": {"number": 1}}

DEADLY: Odd = {
    "half a surrogate pair in an event": (json.dumps({**EVENT, "detail": {"number": "\ud800"}}), {}),
    "the same in its source": (json.dumps({**EVENT, "source": "\udfff"}), {}),
    "the same in a notification": (json.dumps({**SNS, "Message": "\ud800"}), {}),
    "attributes that are text": (json.dumps({**SNS, "MessageAttributes": {"a": "b"}}), {}),
    "attributes that are a list": (json.dumps({**SNS, "MessageAttributes": [1]}), {}),
    "an attribute without a value": (json.dumps({**SNS, "MessageAttributes": {"a": {"Type": "String"}}}), {}),
    "an attribute that is no text": (json.dumps({**SNS, "MessageAttributes": {"a": {"Value": "\ud800"}}}), {}),
    "nested": ("[" * 50_000, {}),
    "nested in an event": (json.dumps(EVENT)[:-1] + ', "x": ' + "[" * 50_000, {}),
    "no envelope of ours": ('{"number": 1}', {h.PACKED: string("no json")}),
    "an envelope nested deep": ('{"number": 1}', {h.PACKED: string("[" * 50_000)}),
    "no base64": ('{"number": 1}', _packed(**{h.ENCODING: "base64"})),
    "an event of nothing": ('{"number": 1}', _packed(**{h.CONTENT_TYPE: "application/cloudevents+json"})),
    "ten binary attributes": ("none", {f"a{n}": {"DataType": "Binary", "BinaryValue": b"\xff"} for n in range(10)}),
}
"""None of these can be read."""

_LIES: Odd = {
    "a notification in a notification": (json.dumps({**SNS, "Message": json.dumps(SNS)}), {}),
    "a notification of nothing": (json.dumps({**SNS, "Message": ""}), {}),
    "a notification that is an object": (json.dumps({**SNS, "Message": {"number": 1}}), {}),
    "a subscription to be confirmed": (json.dumps({**SNS, "Type": "SubscriptionConfirmation"}), {}),
    "headers of ours in a notification": (
        json.dumps({**SNS, "MessageAttributes": {h.ATTEMPT: {"Type": "String", "Value": "x"}}}),
        {},
    ),
    "a packed header of numbers in a notification": (
        json.dumps({**SNS, "MessageAttributes": {h.PACKED: {"Type": "String", "Value": '{"ce-id": 5}'}}}),
        {},
    ),
    "an id that is an object": (json.dumps({**SNS, "MessageId": {"a": 1}, "Timestamp": 5}), {}),
    "an event without a detail": (json.dumps({**EVENT, "detail": None}), {}),
    "an event whose detail is no number": (json.dumps({**EVENT, "detail": float("nan")}), {}),
    "an event of objects": (json.dumps({**EVENT, "id": {}, "source": [], "time": 5, "detail-type": {}}), {}),
    "an event and a notification": (json.dumps({**EVENT, **SNS}), {}),
    "a number of 5,000 digits in an event": (
        json.dumps({**EVENT, "detail": 1})[:-1] + ', "n": ' + "9" * 5000 + "}",
        {},
    ),
    "an event whose end is missing": (json.dumps(EVENT)[:-1], {}),
    "events, one of them none": (f'[{_BODY}, {{"specversion": "1.0", "id": "1", "source": "s", "type": "t"}}]', {}),
    "a body in a bucket": (POINTER.decode() + ',{"s3BucketName":"no","s3Key":"../x"}]', {}),
    "a body in a bucket, older": (OLD_POINTER.decode() + ",5]", {SIZE_ATTRIBUTE: string("-1", "Number")}),
}

_ATTRIBUTES: Odd = {
    "a type of its own": (_BODY, {"a": string("x", "String.json"), "b": string("1", "Number.int")}),
    "a type that is none of ours": (_BODY, {"a": {"DataType": "Binary.png", "BinaryValue": b"\x89PNG"}}),
    "a header of ours in binary": (_BODY, {h.PACKED: {"DataType": "Binary", "BinaryValue": b"\xff\x00"}}),
    "an attempt in binary": (_BODY, {h.ATTEMPT: {"DataType": "Binary", "BinaryValue": b"1"}}),
    "a packed header that is a list": (_BODY, {h.PACKED: string("[1, 2]")}),
    "a packed header that is a number": (_BODY, {h.PACKED: string("5", "Number")}),
    "a packed header in a packed header": (_BODY, _packed(**{h.PACKED: "{"})),
    "a packed header of objects": (_BODY, _packed(a={"b": 1}, **{h.ID: 5, h.TIME: None})),
    "a packed header with half a surrogate pair": (_BODY, _packed(a="\ud800", **{h.ID: "\udfff"})),
    "a packed name that is empty": (_BODY, _packed(**{"": "x", "\n": "y"})),
    "compressed, it says": (_BODY, {"content-encoding": string("gzip")}),
    "compressed in an unknown way": (_BODY, {"content-encoding": string("br, zstd")}),
    "a content type that is none": (_BODY, {h.CONTENT_TYPE: string("\u00fc; charset=\u00fc")}),
    "a trace that is none": (_BODY, {"traceparent": string("00-0-0-zz"), "tracestate": string("=,=")}),
}

_BODIES: Odd = {
    "one space": (" ", {}),
    "one line feed": ("\n", {}),
    "what stands for nothing": ("\u2400", {}),
    "a byte order mark": ("\ufeff" + _BODY, {}),
    "a private character": ("\ue000", {}),
    "a number": ("1e999", {}),
    "a megabyte": (_BODY[:-1] + " " * (_MEGABYTE - len(_BODY)) + "}", {}),
    "a megabyte of nothing": ("[" * _MEGABYTE, {}),
}

_FORGED: Odd = {
    f"forged {number}": (_BODY, {name: string(value) for name, value in headers.items()})
    for number, headers in enumerate(FORGED)
}


ODD: Odd = {**DEADLY, **_LIES, **_ATTRIBUTES, **_BODIES, **_FORGED}
"""All of these are taken by SQS."""


async def put(endpoint: str, source: Source) -> int:
    """Send them to a queue, or to that of a group; how many. They are there when this returns."""
    async with AwsClient(AwsSettings(region="us-east-1", endpoint=endpoint)) as client:
        name = queue_name(source.address, ordered=source.ordered)
        url = (await client.call("sqs", "GetQueueUrl", {"QueueName": name}))["QueueUrl"]
        for body, attributes in ODD.values():
            message = {"QueueUrl": url, "MessageBody": body, "MessageAttributes": attributes}
            await client.call("sqs", "SendMessage", message)
    return len(ODD)
