"""What the URL of the broker says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args
from urllib.parse import quote, urlencode

from msgbus.brokers.aws import AwsSettings
from msgbus.brokers.aws.options import Parser, flag, number, options_of, take, text, whole
from msgbus.brokers.kinesis.batching import MOST_RECORD_BYTES, RECORD_BYTES
from msgbus.brokers.kinesis.parts import Form
from msgbus.brokers.kinesis.rates import SHARD_RECORDS
from msgbus.brokers.kinesis.records import MOST
from msgbus.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class KinesisOptions:
    """`kinesis://[REGION][?option=value...]`; whatever is not here is an option of `AwsSettings`. Times in seconds.

    Sending. `shards`: of a stream that is created; 0 makes it on-demand. `aggregate`: put records of one shard
    together in the format of the Kinesis Producer Library. `aggregate_bytes`: most bytes of such a record.
    `record_bytes`: the most of a record with its key, up to 10 MiB, whatever a stream says; a stream that is created
    gets it as its limit. 0: what each stream says. `rate`: records a second a shard (with it, 1 MiB), above which sends
    wait here rather than being refused there; 0: no limit.

    Reading. `poll`: pause after a read that brought nothing. `reads`: most reads a second of a shard by one consumer.
    `fanout`: enhanced fan-out instead of polling; each group is a registered consumer. `tail`: records of a shard
    that may be handed out beyond its checkpoint, before it pauses. `aggregate_records`: most user records of an
    aggregate; one that has more goes to the failure destination as it is, or it would flood a shard. `parts`: what
    a record of others holds: one payload, lines, or netstrings. `start`: where a new group begins that says nothing:
    latest or oldest.

    Leases. `leases`: dynamodb, memory, or the SQLAlchemy URL of an asynchronous driver. `table_prefix`: of the
    DynamoDB tables. `lease`: how long a lease lives without being renewed. `checkpoint`: the shortest time between
    two checkpoints of a shard. `handover`: how long handlers may go on when another worker asked for their shard.
    `sync`: how often the stream is asked for new shards.

    `failure`: where dead letters go: sqs (a queue TOPIC--GROUP-dead), the ARN of an SQS queue or an SNS topic, or
    s3://BUCKET/PREFIX.
    """

    shards: int = 0
    aggregate: bool = False
    aggregate_bytes: int = 51_200
    record_bytes: int = 0
    rate: float = SHARD_RECORDS
    poll: float = 1.0
    reads: float = 5.0
    fanout: bool = False
    tail: int = 10_000
    aggregate_records: int = MOST
    parts: Form = "one"
    start: Literal["latest", "oldest"] = "latest"
    leases: str = "dynamodb"
    table_prefix: str = ""
    lease: float = 10.0
    checkpoint: float = 1.0
    handover: float = 30.0
    sync: float = 60.0
    failure: str = "sqs"


def parse_url(url: str) -> tuple[AwsSettings, KinesisOptions, str]:
    """Both kinds of options, and the URL of the SQS broker that reads the dead letters. Raises ConfigError."""
    given = options_of(url)
    options = KinesisOptions(**take(given, _PARSERS))
    # Dead letters are records: an envelope of another service that one is in is its own.
    sqs = f"sqs://?{urlencode({'wait': '1', 'unwrap': 'off', **given}, quote_via=quote)}"
    return AwsSettings.from_options(given, _PARSERS), options, sqs


def _start(name: str, value: str) -> str:
    if value not in ("latest", "oldest"):
        raise ConfigError(f"{name}={value!r}: latest or oldest; a subscription's Select(start=...) can say more")
    return value


def _leases(name: str, value: str) -> str:
    if value not in ("dynamodb", "memory") and "+" not in value.partition("://")[0]:
        raise ConfigError(f"{name}={value!r}: dynamodb, memory, or a URL like sqlite+aiosqlite:///leases.db")
    return value


def _failure(name: str, value: str) -> str:
    arn = value.split(":")
    if value != "sqs" and not value.startswith("s3://") and not (len(arn) == 6 and arn[2] in ("sqs", "sns")):
        raise ConfigError(f"{name}={value!r}: sqs, the ARN of an SQS queue or an SNS topic, or s3://BUCKET/PREFIX")
    return value


def _parts(name: str, value: str) -> Form:
    if value not in get_args(Form):
        raise ConfigError(f"{name}={value!r}: one, lines or netstrings")
    return cast(Form, value)


def _record_bytes(name: str, value: str) -> int:
    limit: int = 0 if value == "0" else whole(RECORD_BYTES, MOST_RECORD_BYTES)(name, value)
    return limit


_PARSERS: Mapping[str, Parser] = {
    "shards": whole(0, 10_000),
    "aggregate": flag,
    "aggregate_bytes": whole(1_000, RECORD_BYTES),
    "record_bytes": _record_bytes,
    "rate": number(0),
    "poll": number(0),
    "reads": number(0.1),
    "fanout": flag,
    "tail": whole(1),
    "aggregate_records": whole(1),
    "parts": _parts,
    "start": _start,
    "leases": _leases,
    "table_prefix": text,
    "lease": number(0.3, 3600),
    "checkpoint": number(0),
    "handover": number(0),
    "sync": number(0.1),
    "failure": _failure,
}
