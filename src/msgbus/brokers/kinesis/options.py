"""What the URL of the broker says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

from msgbus.brokers.aws import AwsSettings
from msgbus.brokers.kinesis.batching import MOST_RECORD_BYTES, RECORD_BYTES, SHARD_RECORDS
from msgbus.errors import ConfigError

_FLAGS = {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}


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
    that may be handed out beyond its checkpoint, before it pauses. `start`: where a new group begins that says
    nothing: latest or oldest.

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
    parts = urlsplit(url)
    if parts.path.strip("/") or "@" in parts.netloc:
        plain = url.rpartition("@")[2].partition("?")[0]
        raise ConfigError(f"{plain}: expected kinesis://[REGION][?option=value...]; keys come from the AWS chain")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.netloc:
        given.setdefault("region", parts.netloc)
    own = {each.name: given.pop(each.name) for each in fields(KinesisOptions) if each.name in given}
    sqs = f"sqs://?{urlencode({'wait': '1', **given})}"
    return AwsSettings.from_options(given), _parse(own), sqs


def _parse(given: Mapping[str, str]) -> KinesisOptions:
    return KinesisOptions(**{name: _PARSERS[name](name, text) for name, text in given.items()})


def _number(least: float, most: float = float("inf")) -> Callable[[str, str], float]:
    def parse(name: str, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most or value == float("inf"):
            raise ConfigError(f"{name}={text!r}: a number from {least:g}" + (f" to {most:g}" if most < 1e18 else ""))
        return value

    return parse


def _whole(least: int, most: int = 1 << 62) -> Callable[[str, str], int]:
    def parse(name: str, text: str) -> int:
        if not (text.isascii() and text.isdecimal() and len(text) < 19 and least <= int(text) <= most):
            raise ConfigError(
                f"{name}={text!r}: a whole number from {least}" + (f" to {most}" if most < 1 << 62 else "")
            )
        return int(text)

    return parse


def _flag(name: str, text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise ConfigError(f"{name}={text!r}: allowed are {', '.join(_FLAGS)}")
    return _FLAGS[text.lower()]


def _start(name: str, text: str) -> str:
    if text not in ("latest", "oldest"):
        raise ConfigError(f"{name}={text!r}: latest or oldest; a subscription's Select(start=...) can say more")
    return text


def _leases(name: str, text: str) -> str:
    if text not in ("dynamodb", "memory") and "+" not in text.partition("://")[0]:
        raise ConfigError(f"{name}={text!r}: dynamodb, memory, or a URL like sqlite+aiosqlite:///leases.db")
    return text


def _failure(name: str, text: str) -> str:
    arn = text.split(":")
    if text != "sqs" and not text.startswith("s3://") and not (len(arn) == 6 and arn[2] in ("sqs", "sns")):
        raise ConfigError(f"{name}={text!r}: sqs, the ARN of an SQS queue or an SNS topic, or s3://BUCKET/PREFIX")
    return text


def _record_bytes(name: str, text: str) -> int:
    return 0 if text == "0" else _whole(RECORD_BYTES, MOST_RECORD_BYTES)(name, text)


def _plain(_name: str, text: str) -> str:
    return text


_PARSERS = cast(
    Mapping[str, Callable[[str, str], Any]],
    {
        "shards": _whole(0, 10_000),
        "aggregate": _flag,
        "aggregate_bytes": _whole(1_000, RECORD_BYTES),
        "record_bytes": _record_bytes,
        "rate": _number(0),
        "poll": _number(0),
        "reads": _number(0.1),
        "fanout": _flag,
        "tail": _whole(1),
        "start": _start,
        "leases": _leases,
        "table_prefix": _plain,
        "lease": _number(0.3, 3600),
        "checkpoint": _number(0),
        "handover": _number(0),
        "sync": _number(0.1),
        "failure": _failure,
    },
)
