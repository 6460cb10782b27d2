"""The calls about one stream that are not hot: its shards, its limits, whether it is there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from msgbus.brokers.aws import AwsClient, native_code, translate_any
from msgbus.brokers.aws.codes import DENIED
from msgbus.brokers.aws.errors import http_time
from msgbus.brokers.kinesis.batching import MOST_RECORD_BYTES, RECORD_BYTES
from msgbus.brokers.kinesis.hashing import Shard, ShardMap
from msgbus.brokers.kinesis.rates import Rates
from msgbus.clock import Clock
from msgbus.errors import BusError, Refused

log = logging.getLogger("msgbus.kinesis")

_SKEW = 2.0  # seconds that a clock must be off before the server's is believed, which tells whole seconds


class Limits:
    """How large a record may be with its key, stream by stream. `always`: whatever they say; 0: what they say.

    A stream that nobody asked takes what every stream takes.
    """

    def __init__(self, always: int) -> None:
        self.least = always or RECORD_BYTES
        self._always = always
        self._known: dict[str, int] = {}

    def of(self, stream: str) -> int:
        """In bytes."""
        return self._always or self._known.get(stream, RECORD_BYTES)

    def learn(self, stream: str, told: Mapping[str, Any]) -> None:
        """From its summary."""
        self._known[stream] = record_bytes_of(told)


class KnownStream:
    """What a sender knows of one stream. `shards`: None where they are unknown. `rates`: None: none are kept."""

    def __init__(self, client: AwsClient, name: str, rates: Rates | None) -> None:
        self.rates = rates
        self.shards: ShardMap | None = None
        self.asked = False
        self._client = client
        self._name = name
        self._lock = asyncio.Lock()

    async def learn(self) -> None:
        """The shards, where we may know them. Without them there are no aggregates, and nothing is held back."""
        async with self._lock:
            if self.asked:
                return
            try:
                self.shards = ShardMap(await list_shards(self._client, self._name))
            except BusError as error:
                self.shards = None
                if native_code(error) in DENIED:
                    log.warning("%s: neither aggregates nor pacing: %s", self._name, error)
                    self.asked = True
                return
            self.asked = True


def record_bytes_of(told: Mapping[str, Any]) -> int:
    """The limit of a record with its key, as a summary has it; 1 MiB where the service doesn't say."""
    kib = told.get("MaxRecordSizeInKiB")
    if not isinstance(kib, int):
        return RECORD_BYTES
    return min(max(RECORD_BYTES, kib * 1024), MOST_RECORD_BYTES)


async def list_shards(client: AwsClient, stream: str) -> Sequence[Shard]:
    """Every shard that still holds records, the closed ones too. Raises Refused where there is no such stream."""
    shards: list[Shard] = []
    params: dict[str, Any] = {"StreamName": stream}
    while True:
        answer = await client.call("kinesis", "ListShards", params)
        shards += [Shard.of(told) for told in answer.get("Shards") or ()]
        token = answer.get("NextToken")
        if not token:
            return shards
        params = {"NextToken": token}


async def has_shard(client: AwsClient, stream: str, shard: str) -> bool:
    """Whether a shard still holds records. Raises Refused where there is no such stream."""
    return any(each.id == shard for each in await list_shards(client, stream))


async def summary(client: AwsClient, stream: str) -> Mapping[str, Any] | None:
    """DescribeStreamSummary; None where there is no such stream."""
    answer = await client.find("kinesis", "DescribeStreamSummary", {"StreamName": stream})
    return None if answer is None else answer["StreamDescriptionSummary"]


async def server_time(client: AwsClient, clock: Clock) -> float:
    """Unix time as Kinesis sees it: ours, unless that is off by more than a server's Date can be rounded."""
    try:
        async with client.client("kinesis") as cold:
            answer = await cold.list_streams(Limit=1)
    except Exception as error:
        translated = translate_any(error, "kinesis", "ListStreams", "(any)")
        if isinstance(translated, Refused):  # not allowed to list: then our clock must do
            return clock.time()
        raise translated from error
    told = http_time(answer["ResponseMetadata"]["HTTPHeaders"].get("date", ""))
    ours = clock.time()
    return ours if told is None or abs(told + 0.5 - ours) <= _SKEW else told
