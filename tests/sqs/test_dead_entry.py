"""Dead letters: what they say, and how they still fit at the limits of size and attributes."""

import json
from typing import Any

import pytest

from msgbus import headers as h
from msgbus.brokers.sqs.dead import dead_entry, resent
from msgbus.brokers.sqs.targets import QUEUE_BYTES, RESERVE, Target, queue_target
from msgbus.errors import Refused
from msgbus.message import Act, CopyOf, Delivery, Settlement, Source

TARGET = queue_target("http://sqs/1/work-dead")
FAILURE = {h.ERROR_TYPE: "ValueError", h.ERROR: "x" * 500, h.ATTEMPTS: "5", h.ORIGIN: "queue/work"}


def string(value: str) -> dict[str, Any]:
    return {"DataType": "String", "StringValue": value}


def dead(
    body: str = "{}",
    attributes: dict[str, Any] | None = None,
    target: Target = TARGET,
    hop: str = "0",
    refused: int = 0,
) -> dict[str, Any]:
    message = {"MessageId": "m-1", "Body": body, "MessageAttributes": attributes or {}}
    delivery = Delivery(body.encode(), Source("queue", "work"), {h.HOP: hop}, raw=message)
    settlement = Settlement(delivery, Act.DEAD, reason="because " * 60, headers=FAILURE, refused=refused)
    return dead_entry(settlement, target)


def failure_of(entry: dict[str, Any]) -> dict[str, str]:
    packed: dict[str, str] = json.loads(entry["MessageAttributes"][h.PACKED]["StringValue"])
    return packed


def test_it_is_as_it_came_and_says_why() -> None:
    given = {"kind": string("x"), "raw": {"DataType": "Binary", "BinaryValue": b"\x00", "BinaryListValues": []}}
    entry = dead('{"a": 1}', given)
    assert entry["MessageBody"] == '{"a": 1}'
    assert entry["MessageAttributes"]["kind"] == string("x")
    assert entry["MessageAttributes"]["raw"] == {"DataType": "Binary", "BinaryValue": b"\x00"}
    assert failure_of(entry) == {h.ID: "m-1", h.DEAD_REASON: "because " * 60, **FAILURE}
    assert "MessageGroupId" not in entry


def test_the_packed_header_is_kept() -> None:
    entry = dead(attributes={h.PACKED: string('{"ce-id":"1","msgbus-attempts":"2"}')})
    assert failure_of(entry)["ce-id"] == "1"
    assert failure_of(entry)[h.ATTEMPTS] == "5"


@pytest.mark.parametrize("damaged", ["", "no json", "[1]", "3", "[" * 100_000])
def test_a_damaged_packed_header_is_kept_as_it_is(damaged: str) -> None:
    packed = failure_of(dead(attributes={h.PACKED: string(damaged)}))
    assert packed["msgbus-damaged"] == damaged
    assert packed[h.ATTEMPTS] == "5"


def test_ten_foreign_attributes_leave_room() -> None:
    given = {f"a{number}": string(str(number)) for number in range(10)}
    entry = dead(attributes=given)
    assert len(entry["MessageAttributes"]) == 10
    packed = failure_of(entry)
    seen = {name: each["StringValue"] for name, each in entry["MessageAttributes"].items()} | packed
    assert {name: seen[name] for name in given} == {f"a{number}": str(number) for number in range(10)}


def test_ten_binary_attributes_leave_none() -> None:
    given = {f"a{number}": {"DataType": "Binary", "BinaryValue": b"x"} for number in range(10)}
    with pytest.raises(Refused, match=r"no room in a dead letter in .* for why .* 10 attributes"):
        dead(attributes=given)
    assert dead(attributes=given, refused=1)["MessageAttributes"] == given


def size_of(entry: dict[str, Any]) -> int:
    attributes = entry["MessageAttributes"].items()
    return len(entry["MessageBody"]) + sum(
        len(name) + len(each["DataType"]) + len(each["StringValue"]) for name, each in attributes
    )


def test_the_largest_message_of_ours_fits_with_all_of_its_failure() -> None:
    entry = dead("x" * (QUEUE_BYTES - RESERVE))
    assert failure_of(entry)[h.ERROR] == FAILURE[h.ERROR]
    assert size_of(entry) <= QUEUE_BYTES


def test_a_larger_foreign_one_with_less_of_it() -> None:
    entry = dead("x" * (QUEUE_BYTES - 600))
    assert failure_of(entry)[h.ERROR] == "x" * 80
    assert size_of(entry) <= QUEUE_BYTES


def test_the_largest_that_there_can_be_goes_without_it() -> None:
    body = "x" * QUEUE_BYTES
    with pytest.raises(Refused, match=r"no room in a dead letter in http://sqs/1/work-dead .* 1,048,576 characters"):
        dead(body)
    assert dead(body, refused=1) == {"MessageBody": body}


def test_what_is_no_attribute_is_left_out() -> None:
    assert set(dead(attributes={"a": "b", "c": {}, "d": string("e")})["MessageAttributes"]) == {"d", h.PACKED}


def test_on_fifo_each_has_a_group_and_an_id_of_its_own() -> None:
    fifo = queue_target("http://sqs/1/work-dead.fifo")
    first, second = dead(target=fifo), dead(target=fifo, hop="1")
    assert first["MessageGroupId"] == second["MessageGroupId"] == "m-1"
    assert first["MessageDeduplicationId"] != second["MessageDeduplicationId"]


# -- sent again


def resending(body: str, attributes: dict[str, Any], **added: str) -> tuple[str, dict[str, Any], int]:
    message = {"MessageId": "m-1", "ReceiptHandle": "r", "Body": body, "MessageAttributes": attributes}
    delivery = Delivery(b"opened", Source("queue", "work"), {}, raw=message)
    return resent(CopyOf(delivery, h.FAILURE, {name.replace("_", "-"): value for name, value in added.items()}))


def test_what_is_sent_again_is_as_it_came_without_its_failure() -> None:
    given = {"n": {"DataType": "Number.int", "StringValue": "7"}, "b": {"DataType": "Binary", "BinaryValue": b"\xff"}}
    entry = dead("{}", given)
    body, attributes, _ = resending(entry["MessageBody"], entry["MessageAttributes"], msgbus_hop="1")
    assert (body, attributes) == ("{}", {**given, h.PACKED: string('{"ce-id":"m-1","msgbus-hop":"1"}')})


def test_ten_attributes_leave_no_room_to_say_that_it_is_sent_again() -> None:
    binary = {f"a{n}": {"DataType": "Binary", "BinaryValue": b"x"} for n in range(10)}
    with pytest.raises(Refused, match="10 attributes, and no room"):
        resending("{}", binary, msgbus_hop="1")


@pytest.mark.parametrize("named", [{}, {h.KEY: "own"}])
def test_a_dead_letter_keeps_the_group_of_a_foreign_message(named: dict[str, str]) -> None:
    message = {"MessageId": "m-1", "Body": "{}", "Attributes": {"MessageGroupId": "ada"}}
    delivery = Delivery(b"{}", Source("queue", "work"), named, raw=message)
    entry = dead_entry(Settlement(delivery, Act.DEAD, reason="x", headers={}), TARGET)
    assert failure_of(entry).get(h.KEY) == (None if named else "ada")
