"""Bodies of the hot operations, with both JSON encoders, against botocore's serializer and parser."""

import importlib.util
import json
import sys
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.serialize import create_serializer  # type: ignore[import-untyped]
from botocore.session import Session  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from msgbus.brokers.aws import fast, jsons, operations
from msgbus.brokers.aws.failures import BadResponseError
from msgbus.brokers.aws.operations import HOT

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(texts, values, max_size=4))
def test_both_encoders_write_the_same_values(value: dict[str, object]) -> None:
    assert json.loads(jsons.encode(value)) == json.loads(jsons.encode_std(value))
    assert jsons.decode(jsons.encode_std(value)) == jsons.decode_std(jsons.encode(value))


@pytest.mark.parametrize("encode", [jsons.encode, jsons.encode_std])
def test_what_can_not_be_written(encode: Callable[[object], bytes]) -> None:
    with pytest.raises(TypeError):
        encode({"a": object()})


TIME = datetime(2026, 11, 24, 3, 31, 11, tzinfo=UTC)
CASES: dict[tuple[str, str], dict[str, Any]] = {
    ("sqs", "SendMessageBatch"): {
        "QueueUrl": "q",
        "Entries": [
            {
                "Id": "0",
                "MessageBody": "h\u00e9",
                "MessageAttributes": {"b": {"DataType": "Binary", "BinaryValue": b"\0"}},
            }
        ],
    },
    ("kinesis", "PutRecords"): {"StreamName": "s", "Records": [{"Data": b"\x00\xff", "PartitionKey": "k"}]},
    ("kinesis", "GetShardIterator"): {
        "StreamName": "s",
        "ShardId": "0",
        "ShardIteratorType": "AT_TIMESTAMP",
        "Timestamp": TIME,
    },
    ("events", "PutEvents"): {"Entries": [{"Time": TIME, "Source": "s", "DetailType": "d", "Detail": "{}"}]},
}


@pytest.mark.parametrize("key", CASES, ids="-".join)
def test_a_body_says_what_botocore_says(key: tuple[str, str]) -> None:
    service, name = key
    model = Session().get_service_model(service)
    serializer = create_serializer(model.metadata["protocol"])
    theirs = serializer.serialize_to_request(CASES[key], model.operation_model(name))
    assert json.loads(HOT[key].encode(CASES[key])) == json.loads(theirs["body"])
    lower = {header.lower(): value for header, value in theirs["headers"].items()}
    assert HOT[key].headers["x-amz-target"] == lower["x-amz-target"]
    assert HOT[key].headers["content-type"] == lower["content-type"]


@pytest.mark.parametrize("key", HOT, ids="-".join)
def test_every_hot_operation_exists(key: tuple[str, str]) -> None:
    assert key[1] in Session().get_service_model(key[0]).operation_names


def test_binary_members_of_answers_are_bytes() -> None:
    text = b64encode(b"\x00\xff").decode()
    attributes = {
        "b": {"DataType": "Binary", "BinaryValue": text},
        "s": {"DataType": "String", "StringValue": text},
    }
    messages = {"Messages": [{"Body": "a", "MessageAttributes": attributes}, {"Body": "b"}]}
    decoded = HOT["sqs", "ReceiveMessage"].decode(json.dumps(messages).encode())
    assert decoded["Messages"][0]["MessageAttributes"]["b"]["BinaryValue"] == b"\x00\xff"
    assert decoded["Messages"][0]["MessageAttributes"]["s"]["StringValue"] == text
    records = json.dumps({"Records": [{"Data": text}]}).encode()
    assert HOT["kinesis", "GetRecords"].decode(records) == {"Records": [{"Data": b"\x00\xff"}]}


def test_an_empty_answer_is_an_empty_dict() -> None:
    assert HOT["sqs", "DeleteMessage"].decode(b"") == {}
    assert HOT["sqs", "ReceiveMessage"].decode(b"{}") == {}
    with pytest.raises(ValueError, match="object"):
        HOT["sqs", "ReceiveMessage"].decode(b"[]")


def test_only_a_long_poll_waits() -> None:
    assert HOT["sqs", "ReceiveMessage"].wait_seconds({"WaitTimeSeconds": 20}) == 20.0
    assert HOT["sqs", "ReceiveMessage"].wait_seconds({}) == 0.0
    assert HOT["sqs", "SendMessage"].wait_seconds({"WaitTimeSeconds": 20}) == 0.0


def test_without_msgspec_the_standard_library_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "msgspec", None)
    spec = importlib.util.find_spec(jsons.__name__)
    assert spec is not None
    assert spec.loader is not None
    without = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(without)
    assert without.encode is without.encode_std
    assert without.decode(without.encode({"a": b"\x00"})) == {"a": "AA=="}


@pytest.mark.parametrize("by_shape", [True, False])
def test_records_are_bytes_with_msgspec_and_without(monkeypatch: pytest.MonkeyPatch, by_shape: bool) -> None:
    if by_shape:
        pytest.importorskip("msgspec")
    else:
        monkeypatch.setattr(operations, "_read_records", None)
    record = {"SequenceNumber": "7", "PartitionKey": "é", "ApproximateArrivalTimestamp": 1.7e9, "EncryptionType": "KMS"}
    children = [{"ShardId": "s-2", "ParentShards": ["s-1"], "HashKeyRange": {"StartingHashKey": "0"}}]
    answer = {"Records": [{**record, "Data": b"\x00\xff"}], "MillisBehindLatest": 0, "ChildShards": children}
    told = json.dumps({**answer, "Records": [{**record, "Data": "AP8="}], "Unknown": {"a": 1}})
    found = HOT["kinesis", "GetRecords"].decode(told.encode())
    found.pop("Unknown", None)
    assert found == answer
    for damaged in (b"[]", b'{"Records":[{"Data":"A"}]}', b"{"):
        with pytest.raises(ValueError, match=r"."):
            HOT["kinesis", "GetRecords"].decode(damaged)


@pytest.mark.parametrize("key", HOT)
@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"<a>" * 100_000])
def test_an_answer_that_is_nested_too_deep_is_a_bad_one(key: tuple[str, str], body: bytes) -> None:
    with pytest.raises(BadResponseError):
        fast._decode(HOT[key], body)
