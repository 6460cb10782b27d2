"""AWS: answers over HTTP, and the messages of SQS in them."""

from __future__ import annotations

import json
import math
from random import Random
from typing import Any

from tests.fuzz.target import Target, check_delivery

from msgbus.brokers.aws.errors import error_of_response
from msgbus.brokers.aws.failures import HttpError
from msgbus.brokers.aws.fast import _decode
from msgbus.brokers.aws.operations import HOT
from msgbus.brokers.aws.response import Response, ResponseParser
from msgbus.brokers.sqs.wire import Token, delivery_of
from msgbus.message import Source

_LIMIT = 256 * 1024
_MESSAGE: dict[str, Any] = {
    "MessageId": "m",
    "ReceiptHandle": "r",
    "Body": "{}",
    "Attributes": {"ApproximateReceiveCount": "2", "SentTimestamp": "1764000000000", "MessageGroupId": "g"},
    "MessageAttributes": {"ce-id": {"DataType": "String", "StringValue": "a"}},
}
_NOTICE = {
    "Type": "Notification",
    "MessageId": "m",
    "TopicArn": "arn",
    "Message": "x",
    "Timestamp": "2026-11-24T09:30:00Z",
}
_EVENT = {"id": "a", "detail-type": "T", "source": "s", "detail": {"n": 1}, "time": "2026-11-24T09:30:00Z"}
_WRAPPED = [{**_MESSAGE, "Body": json.dumps(inner), "MessageAttributes": {}} for inner in (_NOTICE, _EVENT)]
_ANSWER = json.dumps({"Messages": [_MESSAGE, *_WRAPPED]}).encode()
_RECORDS = b'{"Records":[{"SequenceNumber":"1","ApproximateArrivalTimestamp":1.5,"Data":"e30=","PartitionKey":"k"}]}'
_XML = (
    b"<PublishBatchResponse><PublishBatchResult><Successful><member><Id>0</Id></member></Successful>"
    b"<Failed><member><Id>1</Id><SenderFault>true</SenderFault></member></Failed></PublishBatchResult></PublishBatchResponse>"
)
_DAMAGED = (HttpError,)


def _http(data: bytes) -> None:
    """In one piece and in many; bodies and heads within their limits."""
    for step in (len(data) or 1, 7):
        parser = ResponseParser(_LIMIT)
        for at in range(0, len(data), step):
            found = parser.feed(data[at : at + step])
            if found is not None:
                assert len(found.body) <= _LIMIT
                error = error_of_response(found)
                assert error.retry_after is None or math.isfinite(error.retry_after)
                break
        parser.finish()


def _answer(head: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + head + b"content-length: %d\r\n\r\n" % len(body) + body


_CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def _error(data: bytes) -> None:
    head, _, body = data.partition(b"\n")
    headers = dict.fromkeys((b"date", b"retry-after", b"x-amzn-query-error", b"x-amzn-errortype"), head)
    error = error_of_response(Response(400, headers, body))
    assert error.retry_after is None or math.isfinite(error.retry_after)


def _operations(data: bytes) -> None:
    """Each operation's reader; where all refuse, that."""
    refused: list[HttpError] = []
    for operation in HOT.values():
        try:
            _decode(operation, data)
        except HttpError as error:
            refused.append(error)
    if len(refused) == len(HOT):
        raise refused[0]


def _messages(data: bytes) -> None:
    answer = _decode(HOT["sqs", "ReceiveMessage"], data)
    for message in answer.get("Messages") or ():
        try:
            token = Token(None, message, 0.0)
        except (TypeError, KeyError):  # it is passed over
            continue
        for source in (Source("queue", "orders"), Source("queue", "orders", ordered=True)):
            check_delivery(delivery_of(message, source, token, None, unwrap=True))


def _make_messages(random: Random) -> bytes:
    odd: tuple[Any, ...] = (
        None,
        5,
        [],
        {},
        "",
        "-3",
        "\ud800",
        {"StringValue": 5},
        {"x": None},
        "1" * 30,
        '{"TopicArn":',
        True,
    )
    message = json.loads(json.dumps(random.choice((_MESSAGE, *_WRAPPED))))
    where = random.choice((message, message["Attributes"], message["MessageAttributes"]))
    where[random.choice([*where, "more"])] = random.choice(odd)
    return json.dumps({"Messages": [message]}).encode()


TARGETS = (
    Target(
        name="aws-http",
        run=_http,
        seeds=[
            _answer(b"content-type: application/x-amz-json-1.0\r\n", _ANSWER),
            _CHUNKED + b"5\r\nhello\r\n0\r\nx: y\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n" + _answer(b"", b"{}"),
            _answer(b"", b"{}").replace(b"200", b"503").replace(b"content-l", b"retry-after: 3\r\ncontent-l"),
        ],
        grow=(
            lambda size: _CHUNKED + b"1\r\nx\r\n" * (size // 6) + b"0\r\n\r\n",
            lambda size: _CHUNKED + b"0\r\n" + b"a: b\r\n" * (size // 6) + b"\r\n",
            lambda size: _CHUNKED + b"0\r\na: " + b"b" * size,
            lambda size: _CHUNKED + b"1;" + b"b" * size,
        ),
        allowed=_DAMAGED,
    ),
    Target(
        name="aws-errors",
        run=_error,
        seeds=[
            b'3\n{"__type":"a#Throttled","message":"slow"}',
            b"Tue, 24 Nov 2026 09:30:00 GMT\n<E><Error><Code>c</Code></Error></E>",
            b"99\n<html>",
        ],
        grow=(
            lambda size: b"9" * size + b"\n{}",
            lambda size: b"\n" + b"[" * size,
            lambda size: b"\n" + b"<a>" * (size // 3),
        ),
    ),
    Target(
        name="aws-answers",
        run=_operations,
        seeds=[_ANSWER, _RECORDS, _XML, b"{}", b'{"Messages":[{"MessageAttributes":{"a":{"BinaryValue":"AA=="}}}]}'],
        grow=(lambda size: b"[" * size, lambda size: b'{"a":' * (size // 5), lambda size: b"<a>" * (size // 3)),
        allowed=_DAMAGED,
    ),
    Target(name="sqs-messages", run=_messages, seeds=[_ANSWER], make=_make_messages, allowed=_DAMAGED),
)
