"""Kinesis: records and aggregates of them, rows of the lease table."""

from __future__ import annotations

import contextlib
import hashlib
import json
from random import Random
from typing import Any

from tests.fuzz.target import Target, check_delivery

from msgbus.brokers.kinesis import aggregation
from msgbus.brokers.kinesis.aggregation import MAGIC, UserRecord
from msgbus.brokers.kinesis.batching import CHECKED
from msgbus.brokers.kinesis.deliveries import delivery_of
from msgbus.brokers.kinesis.records import Intake
from msgbus.brokers.kinesis.rows import DAMAGE, Progress, Row
from msgbus.brokers.kinesis.stores.dynamodb import row_of_item
from msgbus.message import Source

_SOURCE = Source("topic", "orders", "billing")
_USERS = [
    UserRecord("a", b"{}", tags=(CHECKED, ("msgbus-group", "billing"))),
    *(UserRecord("a", b'{"specversion":"1.0"}'), UserRecord("b", b"", "5"), UserRecord("b", b"x")),
]


def _signed(message: bytes) -> bytes:
    """What a producer writes, whatever is in it."""
    return MAGIC + message + hashlib.md5(message, usedforsecurity=False).digest()


def _records(data: bytes) -> None:
    """As a record that came; and as the inside of an aggregate whose sum is right."""
    for content in (data, _signed(data)):
        record = {"SequenceNumber": "1", "PartitionKey": "k", "Data": content}
        for found in Intake(Row(shard="s"), "billing", 1000).unpacked([record]):
            check_delivery(delivery_of(found, _SOURCE, None, None))


def _make(random: Random) -> bytes:
    users = random.choices(_USERS, k=random.randint(0, 5))
    return aggregation.encode(users)[len(MAGIC) : -16]


def _one_long_key(size: int) -> bytes:
    """Many records that share one key, which is as long as they are."""
    users = [UserRecord("k" * (size // 2), b"", tags=(CHECKED,)), *[UserRecord("", b"")] * (size // 12)]
    return aggregation.encode(users)[len(MAGIC) : -16].replace(b"\x08\x01\x1a\0", b"\x08\0\x1a\0")


def _progress(data: bytes) -> None:
    progress = Progress.from_text(data.decode("utf-8", "replace"))
    progress.is_settled("5", 0)
    for opened in progress.open.values():
        assert opened.attempt >= 1
    again = Progress.from_text(progress.to_text())
    assert again == progress


_ITEM = {
    "leaseKey": {"S": "shard-1"},
    "leaseCounter": {"N": "5"},
    "leaseOwner": {"S": "w"},
    "checkpoint": {"S": "49"},
    "parentShardId": {"SS": ["a"]},
    "startingHashKey": {"S": "0"},
    "msgbusAt": {"N": "1.5"},
    "msgbusCrashes": {"N": "1"},
}


def _lease(data: bytes) -> None:
    try:
        item = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(item, dict) and all(isinstance(value, dict) for value in item.values()):
        with contextlib.suppress(*DAMAGE):  # the store makes a Refused of it
            row = row_of_item(item)
            assert row.position is None or int(row.position[0]) >= int(row.position[0])


def _make_lease(random: Random) -> bytes:
    odd: tuple[dict[str, Any], ...] = (
        {"N": "x"},
        {"N": "1e5"},
        {"NULL": True},
        {"SS": []},
        {},
        {"L": [{"S": "a"}]},
        {"N": "-1"},
        {"S": ""},
        {"M": {}},
    )
    return json.dumps({**_ITEM, random.choice(list(_ITEM)): random.choice(odd)}).encode()


_OPEN = '{"last":["49",3],"open":[["47",0,2,1764000000.5],["48",1,1,0.0,2]]}'

TARGETS = (
    Target(
        name="kinesis-records",
        run=_records,
        seeds=[aggregation.encode(_USERS), aggregation.encode(_USERS)[4:-16], b"{}", b"\n\1k\x1a\6\x08\0\x1a\2{}"],
        make=_make,
        grow=(_one_long_key, lambda size: b"\n\0" * (size // 2)),
    ),
    Target(name="kinesis-progress", run=_progress, seeds=[_OPEN.encode(), b'{"last":["1",0],"open":[]}', b""]),
    Target(name="kinesis-leases", run=_lease, seeds=[json.dumps(_ITEM).encode()], make=_make_lease),
)
