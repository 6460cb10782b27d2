"""What is created on the AWS side for streams and groups, and what a service must be allowed to do. Sans-IO.

Source: CreateStream and CreateTable in the API references; "Actions, resources, and condition keys" for Kinesis and
DynamoDB in the service authorization reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgbus.broker import Binding, Mode, Part, TopicSpec
from msgbus.brokers.aws import Arn
from msgbus.brokers.aws.arns import Home
from msgbus.brokers.aws.templates import FORMATS
from msgbus.brokers.kinesis.batching import RECORD_BYTES
from msgbus.brokers.kinesis.options import KinesisOptions
from msgbus.brokers.plan import Plan, Resource, Right, Use
from msgbus.brokers.sqs.names import dead_name, parse_arn, queue_name
from msgbus.brokers.sqs.plans import QUEUE, TOPIC, dead_queue
from msgbus.errors import ConfigError
from msgbus.message import Source

_WRITE = ("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem")


def stream(name: str, options: KinesisOptions) -> Resource:
    """A stream, as CreateStream takes it."""
    properties: dict[str, Any] = {"StreamModeDetails": {"StreamMode": "ON_DEMAND"}}
    if options.shards:
        properties = {"ShardCount": options.shards}
    if options.record_bytes > RECORD_BYTES:
        properties["MaxRecordSizeInKiB"] = options.record_bytes // 1024
    return Resource(kind="Kinesis stream", name=name, properties=properties)


def table(name: str) -> Resource:
    """A table of leases, as CreateTable takes it, with on-demand capacity."""
    properties = {
        "AttributeDefinitions": [{"AttributeName": "leaseKey", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "leaseKey", "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
    }
    return Resource(kind="DynamoDB table", name=name, properties=properties, tags={"msgbus": "leases"})


def table_name(source: Source, options: KinesisOptions) -> str:
    """Of the leases of a group."""
    return options.table_prefix + queue_name(source.address, ordered=False)


class Planning:
    """For one broker."""

    def __init__(self, home: Home, options: KinesisOptions) -> None:
        self._home = home
        self._options = options

    def plan(self, uses: Sequence[Use], mode: Mode) -> Plan:
        """All that these uses need. Raises ConfigError for queues and calls."""
        resources: list[Resource] = []
        rights: list[Right] = []
        for use in uses:
            if use.source.kind != "topic":
                raise ConfigError(f"{use.source}: Kinesis has streams for topics alone; route it with MSGBUS_ROUTES")
            rights += self._publish(use.source) if use.role == "publish" else self._consume(use.source)
            for part in use.parts:
                resources += self._resources(part)
                rights += self._rights(part, mode)
        return Plan(resources=resources, rights=rights, formats=FORMATS)

    # -- what is made

    def _resources(self, part: Part) -> list[Resource]:
        if isinstance(part, TopicSpec):
            return [stream(part.name, self._options)]
        if isinstance(part, Binding):  # leases are rows, which the first consumer writes
            return []
        leases = [table(table_name(part.source, self._options))] if self._options.leases == "dynamodb" else []
        return [self._failures(part.source), *leases]

    def _failures(self, source: Source) -> Resource:
        where = self._options.failure
        if where == "sqs":
            return dead_queue(self._dead(source).resource)
        if where.startswith("s3://"):
            return Resource(kind="S3 bucket", name=where.removeprefix("s3://").partition("/")[0], given=True)
        place = parse_arn(where)
        return Resource(kind=QUEUE if place.service == "sqs" else TOPIC, name=place.name, given=True)

    # -- what is allowed

    def _publish(self, source: Source) -> list[Right]:
        is_paced = bool(self._options.aggregate or self._options.rate)
        return [Right("Publish", ("kinesis:PutRecords", *(["kinesis:ListShards"] * is_paced)), (self._stream(source),))]

    def _consume(self, source: Source) -> list[Right]:
        stream = self._stream(source)
        look = ("kinesis:DescribeStreamSummary", "kinesis:ListShards")
        read = [Right("Read", (*look, "kinesis:GetShardIterator", "kinesis:GetRecords"), (stream,))]
        if self._options.fanout:
            consumer = stream._replace(resource=f"{stream.resource}/consumer/{source.group}:*")
            subscribe = ("kinesis:DescribeStreamConsumer", "kinesis:SubscribeToShard")
            read = [
                Right("Read", (*look, "kinesis:RegisterStreamConsumer"), (stream,)),
                Right("Subscribe", subscribe, (consumer, stream)),
            ]
        return [*read, *self._leases(source), *self._bury(source)]

    def _leases(self, source: Source) -> list[Right]:
        if self._options.leases != "dynamodb":
            return []
        return [Right("Leases", ("dynamodb:DescribeTable", "dynamodb:Scan", *_WRITE), (self._table(source),))]

    def _bury(self, source: Source) -> list[Right]:
        where = self._options.failure
        if where.startswith("s3://"):
            path = where.removeprefix("s3://").strip("/")
            return [Right("BuryInBucket", ("s3:PutObject",), (Arn("s3", f"{path}/*", None, None),))]
        if where != "sqs":
            place = parse_arn(where)
            to = Arn(place.service, place.name, place.region, place.account)
            if place.service == "sns":
                return [Right("BuryInTopic", ("sns:Publish",), (to,))]
            return [Right("DeadLetters", ("sqs:GetQueueUrl", "sqs:SendMessage"), (to,))]
        return [Right("DeadLetters", ("sqs:GetQueueUrl", "sqs:SendMessage"), (self._dead(source),))]

    def _rights(self, part: Part, mode: Mode) -> list[Right]:
        if mode == "trust":
            return []
        if isinstance(part, TopicSpec):
            return self._look_or_make_stream(part.name, mode)
        found: list[Right] = []
        if self._options.failure.startswith("s3://"):
            bucket = self._options.failure.removeprefix("s3://").partition("/")[0]
            found.append(Right("LookAtBucket", ("s3:ListBucket",), (Arn("s3", bucket, None, None),)))
        return found + (self._make(part.source) if mode == "create" and not isinstance(part, Binding) else [])

    def _look_or_make_stream(self, name: str, mode: Mode) -> list[Right]:
        actions = ("kinesis:DescribeStreamSummary", *(["kinesis:CreateStream"] * (mode == "create")))
        return [Right("Streams", actions, (self._home.arn("kinesis", f"stream/{name}"),))]

    def _make(self, source: Source) -> list[Right]:
        found: list[Right] = []
        if self._options.leases == "dynamodb":
            found.append(Right("MakeTables", ("dynamodb:CreateTable", "dynamodb:TagResource"), (self._table(source),)))
        if self._options.failure == "sqs":
            found.append(Right("MakeDeadLetters", ("sqs:CreateQueue", "sqs:TagQueue"), (self._dead(source),)))
        return found

    # -- where things are

    def _stream(self, source: Source) -> Arn:
        return self._home.arn("kinesis", f"stream/{source.name}")

    def _table(self, source: Source) -> Arn:
        return self._home.arn("dynamodb", f"table/{table_name(source, self._options)}")

    def _dead(self, source: Source) -> Arn:
        return self._home.arn("sqs", dead_name(queue_name(source.address, ordered=False)))
