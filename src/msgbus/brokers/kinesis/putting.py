"""PutRecords: the records of one batch for one stream, and what becomes of each message in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgbus.brokers.aws import AwsClient, entry_error, native_code
from msgbus.brokers.aws.codes import MISSING
from msgbus.brokers.kinesis.batching import Put, Record, spans
from msgbus.brokers.kinesis.stream import KnownStream
from msgbus.errors import BusError, Refused, Unavailable
from msgbus.message import Outgoing, Receipt

Result = Receipt | BusError
Owner = int | Put
"""Whose a record is: of the message at that place of the batch, or of the entries of a Put."""


class Putting:
    """Fills `results`, which has a place for each message of `batch`. `gone`: the stream is not there (any more)."""

    def __init__(
        self, client: AwsClient, name: str, stream: KnownStream, batch: Sequence[Outgoing], results: list[Result]
    ) -> None:
        self.gone = False
        self._client = client
        self._name = name
        self._stream = stream
        self._batch = batch
        self._results = results

    async def put(self, records: Sequence[Record], owners: Sequence[Owner]) -> None:
        """In calls that keep to the limits, one after the other."""
        for part in spans(records):
            await self._call(records[part], owners[part])

    async def _call(self, records: Sequence[Record], owners: Sequence[Owner]) -> None:
        try:
            answer = await self._client.call("kinesis", "PutRecords", {"StreamName": self._name, "Records": records})
        except Refused as error:
            if len(records) > 1 and _may_be_one(error):  # one bad record, or a service with lower limits: in halves
                for half in (slice(len(records) // 2), slice(len(records) // 2, None)):
                    await self._call(records[half], owners[half])
            else:
                self._failed(owners, error)
            return
        except BusError as error:
            self._failed(owners, error)
            return
        moved = self._read(owners, answer["Records"])
        if moved:
            await self._after_a_move(moved)

    def _read(
        self, owners: Sequence[Owner], answers: Sequence[Mapping[str, Any]]
    ) -> list[tuple[Put, Mapping[str, Any]]]:
        """A result for each; those that landed in another shard than the one that was meant."""
        moved: list[tuple[Put, Mapping[str, Any]]] = []
        batch, results = self._batch, self._results
        for owner, said in zip(owners, answers, strict=True):
            if said.get("ErrorCode"):
                self._failed((owner,), entry_error(said, "kinesis", "PutRecords", self._name))
            elif isinstance(owner, int):
                results[owner] = Receipt(batch[owner].id, f"{said['ShardId']}:{said['SequenceNumber']}")
            elif owner.shard and said["ShardId"] != owner.shard:
                moved.append((owner, said))
            else:
                self._accepted(owner, said)
        return moved

    def _accepted(self, put: Put, said: Mapping[str, Any]) -> None:
        position = f"{said['ShardId']}:{said['SequenceNumber']}"
        for sub, entry in enumerate(put.entries):
            place = f"{position}:{sub}" if len(put.entries) > 1 else position
            self._results[entry.place] = Receipt(self._batch[entry.place].id, place)

    def _failed(self, owners: Sequence[Owner], error: BusError) -> None:
        self.gone |= native_code(error) in MISSING
        for owner in owners:
            if isinstance(owner, int):
                self._results[owner] = error
                continue
            for entry in owner.entries:
                self._results[entry.place] = error

    async def _after_a_move(self, moved: Sequence[tuple[Put, Mapping[str, Any]]]) -> None:
        """The stream was split or merged. What an aggregate brought into a shard that is not its own is sent again.

        Readers pass over it there, as those of the Kinesis Client Library do.
        """
        self._stream.asked = False
        await self._stream.learn()
        shards = self._stream.shards
        for put, said in moved:
            landed = shards.by_id.get(said["ShardId"]) if shards is not None else None
            self._accepted(put, said)
            for entry in put.entries[1:]:
                if landed is None or not landed.owns(entry.hash):
                    address = self._batch[entry.place].address
                    self._results[entry.place] = Unavailable(
                        f"{address}: its shard was split or merged; to be sent again"
                    )


def _may_be_one(error: Refused) -> bool:
    return native_code(error) in ("Validation", "InvalidArgument")
