"""One archived record, and how an object has it as a line of JSON."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from msgbus.errors import DecodeError
from msgbus.message import Delivery

Format = Literal["jsonl", "avro"]
"""Of an object, and the end of its name: newline JSON, or an Avro object container file."""


class Archived(NamedTuple):
    """One record. `time`: when it arrived, in Unix seconds."""

    shard: str
    sequence: str
    sub: int
    key: str
    time: float
    data: bytes

    @classmethod
    def of(cls, delivery: Delivery) -> Archived:
        """A delivery of Kinesis, as it came. Raises TypeError for one that has no position."""
        raw = delivery.raw
        if not isinstance(raw, Mapping) or "SequenceNumber" not in raw:
            raise TypeError(f"{delivery.source}: only what comes from Kinesis can be archived")
        return cls(
            raw["ShardId"],
            raw["SequenceNumber"],
            int(raw.get("SubSequenceNumber", 0)),
            raw["PartitionKey"],
            float(raw.get("ApproximateArrivalTimestamp") or 0.0),
            delivery.body,
        )

    def to_line(self) -> bytes:
        """One line of JSON; data that is no text is `data_base64`."""
        line: dict[str, Any] = {
            "shard": self.shard,
            "sequence": self.sequence,
            "sub": self.sub,
            "key": self.key,
            "time": self.time,
        }
        try:
            line["data"] = self.data.decode()
        except UnicodeDecodeError:
            line["data_base64"] = base64.b64encode(self.data).decode()
        return json.dumps(line, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_line(cls, text: bytes) -> Archived:
        """What `to_line` wrote. Raises DecodeError."""
        try:
            line = json.loads(text)
            data = line["data"].encode() if "data" in line else base64.b64decode(line["data_base64"], validate=True)
            record = cls(line["shard"], line["sequence"], int(line["sub"]), line["key"], float(line["time"]), data)
            if not math.isfinite(record.time):
                raise ValueError(f"no time: {record.time}")
            "".join((record.shard, record.sequence, record.key))  # raises where one is no text
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise DecodeError(f"not a line of an archive: {error}") from error
        return record
