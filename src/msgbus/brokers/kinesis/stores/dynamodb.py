"""Leases in DynamoDB, in the layout of the Kinesis Client Library: a table per group, `leaseKey` its partition key.

Source: "DynamoDB metadata tables and load balancing in KCL" in the developer guide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgbus.broker import Mode
from msgbus.brokers.aws import AwsClient, native_code
from msgbus.brokers.kinesis import planning
from msgbus.brokers.kinesis.rows import DAMAGE, Row, checked, damaged
from msgbus.clock import Clock
from msgbus.errors import Refused, Unavailable

_CONFLICT = "ConditionalCheckFailed"
_PAUSE = 0.5  # seconds between two looks at a table that is being made
_LOOKS = 120

Item = Mapping[str, Mapping[str, Any]]

LEASE = {"S": "LEASE"}
"""What version 3.5 of the Kinesis Client Library says of each row that is a lease."""


class DynamoStore:
    """One table. Attributes that are not ours stay as they are."""

    def __init__(self, client: AwsClient, table: str, clock: Clock) -> None:
        self.name = table
        self._client = client
        self._clock = clock

    async def is_there(self) -> bool:
        """Whether the table is there and can be used; waits while it is being made."""
        for _ in range(_LOOKS):
            told = await self._client.find("dynamodb", "DescribeTable", {"TableName": self.name})
            if told is None:
                return False
            if told["Table"]["TableStatus"] in ("ACTIVE", "UPDATING"):
                return True
            await self._clock.sleep(_PAUSE)
        raise Unavailable(f"dynamodb: table {self.name} is still not active after {_LOOKS * _PAUSE:g} s")

    async def ensure(self, mode: Mode) -> bool:
        """Make the table, with on-demand capacity."""
        if await self.is_there() or mode != "create":
            return False
        table = planning.table(self.name)
        tags = [{"Key": name, "Value": value} for name, value in table.tags.items()]
        params = {"TableName": self.name, **table.properties, "Tags": tags}
        await self._client.make("dynamodb", "CreateTable", params)
        await self.is_there()
        return True

    async def rows(self) -> Sequence[Row]:
        """A consistent scan."""
        rows: list[Row] = []
        params: dict[str, Any] = {"ConsistentRead": True}
        while True:
            answer = await self._call("Scan", params)
            rows += [self._row(item) for item in answer.get("Items") or () if is_lease(item)]
            following = answer.get("LastEvaluatedKey")
            if not following:
                return rows
            params["ExclusiveStartKey"] = following

    async def read(self, shard: str) -> Row | None:
        """A consistent read."""
        answer = await self._call("GetItem", {"Key": {"leaseKey": {"S": shard}}, "ConsistentRead": True})
        item = answer.get("Item")
        return self._row(item) if item else None

    def _row(self, item: Item) -> Row:
        try:
            return row_of_item(item)
        except DAMAGE as error:
            raise damaged(f"dynamodb: table {self.name}", item.get("leaseKey"), error) from error

    async def add(self, row: Row) -> bool:
        """PutItem, where there is none."""
        item = {"leaseKey": {"S": row.shard}, **{name: value for name, value in attributes(row).items() if value}}
        return await self._try("PutItem", {"Item": item, "ConditionExpression": "attribute_not_exists(leaseKey)"})

    async def swap(self, old: Row, new: Row) -> bool:
        """UpdateItem, on the condition that counter and holder are the old ones."""
        written = attributes(new)
        kept = {name: value for name, value in written.items() if value}
        gone = [name for name, value in written.items() if not value]
        condition, values = _same_as(old)
        expression = "SET " + ", ".join(f"#{name} = :{name}" for name in kept)
        if gone:
            expression += " REMOVE " + ", ".join(f"#{name}" for name in gone)
        params = {
            "Key": {"leaseKey": {"S": old.shard}},
            "UpdateExpression": expression,
            "ConditionExpression": condition,
            "ExpressionAttributeNames": {f"#{name}": name for name in written},
            "ExpressionAttributeValues": {**{f":{name}": value for name, value in kept.items()}, **values},
        }
        return await self._try("UpdateItem", params)

    async def remove(self, row: Row) -> bool:
        """DeleteItem, on the same condition."""
        condition, values = _same_as(row)
        params = {
            "Key": {"leaseKey": {"S": row.shard}},
            "ConditionExpression": condition,
            "ExpressionAttributeValues": values,
        }
        return await self._try("DeleteItem", params)

    async def _try(self, operation: str, params: Mapping[str, Any]) -> bool:
        try:
            await self._call(operation, params)
        except Refused as error:
            if native_code(error) == _CONFLICT:
                return False
            raise
        return True

    async def _call(self, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        return await self._client.call("dynamodb", operation, {"TableName": self.name, **params})


def _same_as(row: Row) -> tuple[str, dict[str, Any]]:
    """The condition that a lease is still this one, and its values."""
    condition, values = "leaseCounter = :seen_counter", {":seen_counter": {"N": str(row.counter)}}
    for name, value in (("leaseOwner", row.owner), ("checkpointOwner", row.giver)):
        if value:
            condition += f" AND {name} = :seen_{name}"
            values[f":seen_{name}"] = {"S": value}
        else:
            condition += f" AND attribute_not_exists({name})"
    return condition, values


def is_lease(item: Item) -> bool:
    """The Kinesis Client Library keeps other things in the table too; before 3.5 no lease said that it is one."""
    return "leaseCounter" in item and item.get("entityType", LEASE) == LEASE


def attributes(row: Row) -> dict[str, Mapping[str, Any] | None]:
    """The attributes of a lease but its key; None where it has none."""
    return {
        "entityType": LEASE,
        "leaseCounter": {"N": str(row.counter)},
        "leaseOwner": _text(row.owner),
        "checkpointOwner": _text(row.giver),
        "checkpoint": {"S": row.checkpoint},
        "checkpointSubSequenceNumber": {"N": str(row.sub)},
        "ownerSwitchesSinceCheckpoint": {"N": str(row.switches)},
        "parentShardId": {"SS": list(row.parents)} if row.parents else None,
        "childShardIds": {"SS": list(row.children)} if row.children else None,
        "startingHashKey": {"S": str(row.first)},
        "endingHashKey": {"S": str(row.last)},
        "msgbusAt": {"N": f"{row.at:.3f}"} if row.at else None,
        "msgbusProgress": _text(row.progress),
        "msgbusCrashes": {"N": str(row.crashes)} if row.crashes else None,
        "msgbusSuspects": {"N": str(row.suspects)} if row.suspects else None,
    }


def _text(value: str) -> Mapping[str, str] | None:
    return {"S": value} if value else None


def row_of_item(item: Item) -> Row:
    """A lease as the table has it; one of the Kinesis Client Library may lack what is not needed. Raises `DAMAGE`."""
    said = {name: next(iter(value.values())) for name, value in item.items()}
    standard = Row(shard=str(said["leaseKey"]))
    row = Row(
        shard=standard.shard,
        owner=str(said.get("leaseOwner", "")),
        giver=str(said.get("checkpointOwner", "")),
        counter=int(said.get("leaseCounter", 0)),
        checkpoint=str(said.get("checkpoint", standard.checkpoint)),
        sub=int(said.get("checkpointSubSequenceNumber", 0)),
        at=float(said.get("msgbusAt", 0.0)),
        parents=tuple(sorted(said.get("parentShardId", ()))),
        children=tuple(sorted(said.get("childShardIds", ()))),
        first=int(said.get("startingHashKey", standard.first)),
        last=int(said.get("endingHashKey", standard.last)),
        switches=int(said.get("ownerSwitchesSinceCheckpoint", 0)),
        progress=str(said.get("msgbusProgress", "")),
        crashes=int(said.get("msgbusCrashes", 0)),
        suspects=int(said.get("msgbusSuspects", 0)),
    )
    return checked(row)
