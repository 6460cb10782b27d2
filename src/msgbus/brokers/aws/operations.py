"""The hot operations: how each is written and read. Whatever is not here goes through aiobotocore.

Sources: the "AWS JSON 1.0 / 1.1" and "AWS Query" protocols of the Smithy 2.0 specification; the API
references of SQS, SNS, Kinesis Data Streams, DynamoDB and EventBridge for names, binary members and time members.
"""

from __future__ import annotations

import contextlib
from base64 import b64decode
from binascii import a2b_base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict

from msgbus.brokers.aws import jsons, query

_SQS_HEADERS = {"content-type": "application/x-amz-json-1.0", "x-amzn-query-mode": "true"}
_JSON11_HEADERS = {"content-type": "application/x-amz-json-1.1"}
_FORM_HEADERS = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
_SNS_VERSION = "2010-03-31"


@dataclass(frozen=True, slots=True)
class Operation:
    """One hot operation.

    `headers`: what is sent and signed beside the usual. `encode` raises TypeError or ValueError for
    parameters that can't be written; `decode` raises ValueError for an answer that is not what it should be.
    `wait`: the parameter with the seconds of a long poll. `cold`: with this parameter it goes through
    aiobotocore.
    """

    service: str
    name: str
    headers: Mapping[str, str]
    encode: Callable[[Mapping[str, Any]], bytes]
    decode: Callable[[bytes], dict[str, Any]]
    wait: str = ""
    cold: str = ""

    def wait_seconds(self, params: Mapping[str, Any]) -> float:
        """How long the service may hold this call back on purpose."""
        return float(params.get(self.wait) or 0) if self.wait else 0.0


def seconds(value: Any) -> Any:
    """A time as AWS's JSON wants it, in Unix seconds."""
    return value.timestamp() if isinstance(value, datetime) else value


def _decode_json(data: bytes) -> dict[str, Any]:
    try:
        answer = jsons.decode(data) if data else {}
    except ValueError:
        answer = jsons.decode_std(data)  # which takes half a surrogate pair: one odd message must not hide the others
    if not isinstance(answer, dict):
        raise ValueError("an answer that is no JSON object")
    return answer


def _decode_messages(data: bytes) -> dict[str, Any]:
    answer = _decode_json(data)
    if b'"BinaryValue"' not in data:
        return answer
    for message in answer.get("Messages") or ():
        for attribute in (message.get("MessageAttributes") or {}).values():
            if "BinaryValue" in attribute:
                attribute["BinaryValue"] = _binary(attribute["BinaryValue"])
    return answer


def _binary(text: str) -> bytes | str:
    """What is no base64 stays as it is: it is one message's."""
    try:
        return b64decode(text)
    except ValueError:
        return text


class _Record(TypedDict, total=False):
    SequenceNumber: str
    ApproximateArrivalTimestamp: float
    Data: bytes
    PartitionKey: str
    EncryptionType: str | None


class _Records(TypedDict, total=False):
    Records: list[_Record]
    NextShardIterator: str | None
    MillisBehindLatest: int | None
    ChildShards: list[dict[str, Any]] | None


_read_records = jsons.reader(_Records)


def _decode_records(data: bytes) -> dict[str, Any]:
    if _read_records is not None:
        with contextlib.suppress(ValueError):
            read: dict[str, Any] = _read_records(data)
            return read
    answer = _decode_json(data)
    for record in answer.get("Records") or ():
        record["Data"] = a2b_base64(record["Data"])
    return answer


def _encode_iterator(params: Mapping[str, Any]) -> bytes:
    if "Timestamp" in params:
        params = {**params, "Timestamp": seconds(params["Timestamp"])}
    return jsons.encode(params)


def _encode_events(params: Mapping[str, Any]) -> bytes:
    entries = [{**entry, "Time": seconds(entry["Time"])} if "Time" in entry else entry for entry in params["Entries"]]
    return jsons.encode({**params, "Entries": entries})


def _sqs(name: str, **more: Any) -> Operation:
    headers = {**_SQS_HEADERS, "x-amz-target": f"AmazonSQS.{name}"}
    return Operation("sqs", name, headers, **{"encode": jsons.encode, "decode": _decode_json, **more})


def _kinesis(name: str, **more: Any) -> Operation:
    headers = {**_JSON11_HEADERS, "x-amz-target": f"Kinesis_20131202.{name}"}
    return Operation("kinesis", name, headers, **{"encode": jsons.encode, "decode": _decode_json, **more})


def _dynamodb(name: str) -> Operation:
    headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": f"DynamoDB_20120810.{name}"}
    return Operation("dynamodb", name, headers, jsons.encode, _decode_json)


def _sns(name: str) -> Operation:
    def encode(params: Mapping[str, Any]) -> bytes:
        return query.encode_form(name, _SNS_VERSION, params)

    def decode(data: bytes) -> dict[str, Any]:
        return query.decode_result(name, data)

    return Operation("sns", name, _FORM_HEADERS, encode, decode)


_ALL = (
    _sqs("SendMessage"),
    _sqs("SendMessageBatch"),
    _sqs("ReceiveMessage", decode=_decode_messages, wait="WaitTimeSeconds"),
    _sqs("DeleteMessage"),
    _sqs("DeleteMessageBatch"),
    _sqs("ChangeMessageVisibility"),
    _sqs("ChangeMessageVisibilityBatch"),
    _sns("Publish"),
    _sns("PublishBatch"),
    _kinesis("PutRecord"),
    _kinesis("PutRecords"),
    _kinesis("GetRecords", decode=_decode_records),
    _kinesis("GetShardIterator", encode=_encode_iterator),
    _kinesis("ListShards"),
    _kinesis("DescribeStreamSummary"),
    _dynamodb("DescribeTable"),
    _dynamodb("GetItem"),  # without binary attributes, which nobody here has
    _dynamodb("PutItem"),
    _dynamodb("UpdateItem"),
    _dynamodb("DeleteItem"),
    _dynamodb("Scan"),
    Operation(
        "events",
        "PutEvents",
        {**_JSON11_HEADERS, "x-amz-target": "AWSEvents.PutEvents"},
        _encode_events,
        _decode_json,
        cold="EndpointId",  # a global endpoint is signed by SigV4A, which only the CRT does
    ),
)

HOT: Mapping[tuple[str, str], Operation] = {(hot.service, hot.name): hot for hot in _ALL}
