"""Where dead letters go: an SQS queue, an SNS topic, or objects in S3. Each says where in the stream it was."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from msgbus import headers as h
from msgbus.broker import Difference, Mode
from msgbus.brokers.aws import AwsClient, translate_any
from msgbus.brokers.kinesis.deliveries import envelope_headers
from msgbus.brokers.kinesis.options import KinesisOptions
from msgbus.brokers.sqs.names import dead_name, dead_source, queue_name, split_arn
from msgbus.brokers.sqs.plans import dead_queue
from msgbus.brokers.sqs.queues import create_queue
from msgbus.brokers.sqs.targets import QUEUE_BYTES, TOPIC_BYTES, Targets
from msgbus.brokers.sqs.wire import EMPTY
from msgbus.errors import BusError, Refused, shown
from msgbus.message import Settlement, Source

OMITTED = "kinesis-omitted"
"""The header of a dead letter whose body was too large for its destination: it is in the stream, at the position."""

_SLACK = 200  # bytes of names and types
_AT_ONCE = 16  # letters

Result = BusError | None


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter: its headers with failure and position, and its body."""

    headers: Mapping[str, str]
    body: bytes
    key: str

    @classmethod
    def of(cls, settlement: Settlement) -> Letter:
        """What the core says of it, and where it was."""
        delivery = settlement.delivery
        raw: Mapping[str, Any] = delivery.raw
        sub = str(raw.get("SubSequenceNumber", 0))
        shard = raw["ShardId"]
        position = {
            "kinesis-stream": delivery.source.name,
            "kinesis-shard": shard,
            "kinesis-sequence": raw["SequenceNumber"],
            "kinesis-subsequence": sub,
            "kinesis-key": raw["PartitionKey"],
        }
        reason = {h.DEAD_REASON: settlement.reason}
        if h.ID not in delivery.headers and not envelope_headers(delivery):
            position[h.ID] = f"{raw['SequenceNumber']}-{sub}"  # of a record of others
        headers = {**delivery.headers, **envelope_headers(delivery), **position, **reason, **(settlement.headers or {})}
        return cls(headers, delivery.body, f"{shard}/{raw['SequenceNumber']}-{sub}")

    def text(self) -> tuple[str, dict[str, str]]:
        """Body and headers where a body must be text."""
        try:
            text = self.body.decode()
            if text.isprintable() and text != EMPTY:
                return text, dict(self.headers)
        except UnicodeDecodeError:
            pass
        return base64.b64encode(self.body).decode(), {**self.headers, h.ENCODING: "base64"}

    def fitted(self, limit: int) -> tuple[str, str]:
        """Body and packed headers within `limit` bytes; a body that is too large is left out, and said to be."""
        text, headers = self.text()
        packed = json.dumps(headers, separators=(",", ":"))
        if len(text.encode()) + len(packed) + _SLACK <= limit:
            return text or EMPTY, packed
        headers = {name: value[:1000] for name, value in self.headers.items()}
        return "-", json.dumps({**headers, OMITTED: f"{len(self.body)} bytes"}, separators=(",", ":"))


class Failures(Protocol):
    """The failure destination of one group."""

    async def write(self, settlements: Sequence[Settlement]) -> Sequence[Result]:
        """Write dead letters; one result each."""
        ...

    async def ensure(self, mode: Mode) -> Sequence[Difference]:
        """Whether it is there, made where asked and possible."""
        ...

    async def place(self) -> Source | None:
        """Where they can be read."""
        ...


class _Each:
    """Writes each alone: one that is refused must not hold up others. Some at once: an aggregate may have thousands."""

    async def write(self, settlements: Sequence[Settlement]) -> Sequence[Result]:
        """One result each."""
        results: list[Result] = []
        for start in range(0, len(settlements), _AT_ONCE):
            results += await asyncio.gather(*map(self._result, settlements[start : start + _AT_ONCE]))
        return results

    async def _result(self, settlement: Settlement) -> Result:
        try:
            await self.write_one(Letter.of(settlement))
        except BusError as error:
            return error
        except Exception as error:
            source = settlement.delivery.source
            refused = Refused(f"{source}: no dead letter can be made of this record: {shown(error)}")
            refused.__cause__ = error
            return refused
        return None

    async def write_one(self, letter: Letter) -> None:
        """Write one."""
        raise NotImplementedError

    async def ensure(self, mode: Mode) -> Sequence[Difference]:
        """Nothing to make."""
        return []

    async def place(self) -> Source | None:
        """Nowhere that a receiver reads."""
        return None


@dataclass(slots=True)
class QueueFailures(_Each):
    """An SQS queue: `name`, of `account` where it is not ours. A redrive policy or alarm on it is the owner's."""

    client: AwsClient
    name: str
    account: str = ""
    _url: str = field(default="", init=False)

    async def write_one(self, letter: Letter) -> None:
        """SendMessage, the headers packed into one attribute."""
        if not self._url and not await self._find():
            raise Refused(
                f"the failure destination, SQS queue {self.name}, is not there; create it, or start once with"
                " MSGBUS_PROVISION=create"
            )
        text, packed = letter.fitted(QUEUE_BYTES)
        attributes = {h.PACKED: {"DataType": "String", "StringValue": packed}}
        params: dict[str, Any] = {"QueueUrl": self._url, "MessageBody": text, "MessageAttributes": attributes}
        if self.name.endswith(".fifo"):
            params |= {"MessageGroupId": letter.key, "MessageDeduplicationId": letter.key.replace("/", ":")}
        await self.client.call("sqs", "SendMessage", params)

    async def ensure(self, mode: Mode) -> Sequence[Difference]:
        """Made where it is missing."""
        if await self._find():
            return []
        if mode == "create":
            self._url = await create_queue(self.client, dead_queue(self.name))
        return [Difference(f"SQS queue {self.name}", "there", "missing", made=mode == "create")]

    async def place(self) -> Source | None:
        """The queue, if it is there."""
        return dead_source(self.name) if await self._find() else None

    async def _find(self) -> bool:
        self._url = await Targets(self.client, self.account).queue_url(self.name) or ""
        return bool(self._url)


@dataclass(slots=True)
class TopicFailures(_Each):
    """An SNS topic: those who look after dead letters subscribe to it."""

    client: AwsClient
    topic: str

    async def write_one(self, letter: Letter) -> None:
        """Publish, the headers packed into one attribute."""
        text, packed = letter.fitted(TOPIC_BYTES)
        attributes = {h.PACKED: {"DataType": "String", "StringValue": packed}}
        params = {"TopicArn": self.topic, "Message": text, "MessageAttributes": attributes}
        await self.client.call("sns", "Publish", params)


@dataclass(slots=True)
class BucketFailures(_Each):
    """Objects `PREFIX/STREAM/GROUP/SHARD/SEQUENCE-SUB.json`: written twice, it is still one."""

    client: AwsClient
    bucket: str
    prefix: str

    async def write_one(self, letter: Letter) -> None:
        """PutObject of headers and body as one JSON object; a body that is no text is `body_base64`."""
        text, headers = letter.text()
        kind = "body_base64" if h.ENCODING in headers else "body"
        content = json.dumps({"headers": dict(letter.headers), kind: text}, indent=1).encode()
        params = {
            "Bucket": self.bucket,
            "Key": f"{self.prefix}/{letter.key}.json",
            "Body": content,
            "ContentType": "application/json",
        }
        await self.client.call("s3", "PutObject", params, f"s3://{self.bucket}")

    async def ensure(self, mode: Mode) -> Sequence[Difference]:
        """Only looked for: buckets are not made by services."""
        try:
            async with self.client.client("s3") as s3:
                await s3.head_bucket(Bucket=self.bucket)
        except Exception as error:
            translated = translate_any(error, "s3", "HeadBucket", self.bucket)
            if isinstance(translated, Refused):
                return [Difference(f"S3 bucket {self.bucket}", "there", str(translated))]
            raise translated from error
        return []


def failures_of(source: Source, client: AwsClient, options: KinesisOptions) -> Failures:
    """The failure destination that the URL names, for one group."""
    where = options.failure
    if where.startswith("s3://"):
        bucket, _, prefix = where.removeprefix("s3://").partition("/")
        path = [part for part in (prefix.strip("/"), source.name, source.group) if part]
        return BucketFailures(client, bucket, "/".join(path))
    if where.startswith("arn:") and where.split(":")[2] == "sns":
        return TopicFailures(client, where)
    if where.startswith("arn:"):
        account, name = split_arn(where)
        return QueueFailures(client, name, account)
    return QueueFailures(client, dead_name(queue_name(source.address, ordered=False)))
