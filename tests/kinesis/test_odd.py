"""What anybody may put into a shard: the odd one is dead with its reason, what comes behind it is handed out."""

from __future__ import annotations

from typing import Any

import pytest
from tests.kinesis.odd import BODY, ODD, aggregate

from msgbus.brokers.aws import AwsClient
from msgbus.brokers.kinesis.aggregation import UserRecord, encode
from msgbus.brokers.kinesis.batching import CHECKED
from msgbus.brokers.kinesis.failures import BucketFailures, Letter
from msgbus.brokers.kinesis.hashing import HIGHEST
from msgbus.brokers.kinesis.holding import Holding
from msgbus.brokers.kinesis.rows import Row
from msgbus.errors import DecodeError, Refused
from msgbus.message import Act, Delivery, Settlement, Source

SOURCE = Source("topic", "t", "g")


def handed_out(*data: bytes, last: int = HIGHEST, **options: Any) -> list[Delivery]:
    """Of a shard with these records."""
    holding = Holding(SOURCE, Row(shard="shard", last=last), 10_000, **options)
    holding.load([{"SequenceNumber": str(at), "PartitionKey": "k", "Data": each} for at, each in enumerate(data)])
    return holding.take(10_000)


@pytest.mark.parametrize("kind", ODD)
def test_what_comes_behind_is_handed_out(kind: str) -> None:
    *odd, good = handed_out(ODD[kind].data, BODY)
    assert good.body == BODY
    assert len(odd) == ODD[kind].messages


@pytest.mark.parametrize("explicit", ["abc", "-1", "\u00b2", "1_0", str(HIGHEST + 1), "9" * 5000])
def test_a_hash_key_that_is_none_does_not_move_its_record_elsewhere(explicit: str) -> None:
    (delivery,) = handed_out(aggregate(CHECKED, explicit=explicit), last=5)
    assert (delivery.body, delivery.fault) == (BODY, None)


@pytest.mark.parametrize(("explicit", "count"), [("5", 1), ("005", 1), ("6", 0), (str(HIGHEST), 0)])
def test_one_that_is_a_number_does(explicit: str, count: int) -> None:
    assert len(handed_out(aggregate(CHECKED, explicit=explicit), last=5)) == count


def test_an_aggregate_of_too_many_is_one_delivery_that_says_so() -> None:
    most = encode([UserRecord("k", b"x")] * 3)
    assert [each.body for each in handed_out(most, most=3)] == [b"x"] * 3
    (delivery,) = handed_out(most, most=2)
    assert delivery.body == most
    assert isinstance(delivery.fault, DecodeError)
    assert "aggregate_records" in str(delivery.fault)


class Written(BucketFailures):
    """Where every letter is taken."""

    async def write_one(self, letter: Letter) -> None:
        """Done."""


async def test_a_letter_that_can_t_be_made_is_refused_and_those_beside_it_are_written() -> None:
    deliveries = handed_out(BODY, BODY, BODY)
    deliveries[1].raw.pop("ShardId")
    failures = Written(AwsClient(), "bucket", "")
    results = await failures.write([Settlement(each, Act.DEAD, reason="odd") for each in deliveries])
    assert [type(result) for result in results] == [type(None), Refused, type(None)]
    assert "ShardId" in str(results[1])
