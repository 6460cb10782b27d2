"""What the URL of the broker says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from msgbus.brokers.aws import AwsSettings
from msgbus.brokers.aws.options import Parser, flag, options_of, take, text, whole
from msgbus.brokers.sqs.names import Place, parse_arn
from msgbus.errors import ConfigError, Refused
from msgbus.message import Address

_LONGEST_WAIT = 20  # seconds, of ReceiveMessage
_MOST_POLLS = 64
_AT = "at."


@dataclass(frozen=True, slots=True, kw_only=True)
class SqsOptions:
    """`sqs://[REGION][?option=value...]`; whatever is not here is an option of `AwsSettings`.

    `account`: the account that owns queues and topics, 12 digits; by default that of the credentials.
    `wait`: seconds of one long poll, whole, 1 to 20; a stop takes at most so long. `polls`: long polls in flight
    per receiver under load, 1 to 64. `fair`: send a message's key as group id to standard queues and topics.
    `unwrap`: open the envelopes of SNS (subscriptions without raw delivery) and EventBridge.
    `reply_queue`: the name of a queue for replies, where CreateQueue is not allowed; one process alone may use it.
        Responders answer there where it is called `msgbus-reply-*`, or where their MSGBUS_REPLIES allows it.
    `places`, written `at.NAME=ARN`: where a queue or a topic is that has another name or another owner;
    `at.TOPIC/GROUP=ARN` for the queue of a group. What is given so is never made or changed.
    """

    account: str = ""
    wait: int = 2
    polls: int = 8
    fair: bool = True
    unwrap: bool = True
    reply_queue: str = ""
    places: Mapping[Address, Place] = field(default_factory=dict)


def parse_url(url: str) -> tuple[AwsSettings, SqsOptions]:
    """Both kinds of options of a broker URL. Raises ConfigError naming the option and what is allowed."""
    given = options_of(url)
    options = SqsOptions(**take(given, _PARSERS))
    places = dict(_place(name, given.pop(name)) for name in list(given) if name.startswith(_AT))
    return AwsSettings.from_options(given, (*_PARSERS, "at.NAME")), replace(options, places=places)


def _place(option: str, value: str) -> tuple[Address, Place]:
    """`at.NAME` or `at.TOPIC/GROUP`; the ARN says whether NAME is a queue or a topic."""
    try:
        place = parse_arn(value)
    except Refused as error:
        raise ConfigError(f"{option}: {error}") from error
    name, _, group = option.removeprefix(_AT).partition("/")
    if not name or (group and place.service != "sqs"):
        raise ConfigError(f"{option}={value}: expected at.TOPIC=ARN of sns, at.QUEUE or at.TOPIC/GROUP=ARN of sqs")
    return Address("topic" if group or place.service == "sns" else "queue", name, group), place


def _account(name: str, value: str) -> str:
    if value and not (value.isdecimal() and len(value) == 12):
        raise ConfigError(f"{name}={value!r}: an AWS account has 12 digits")
    return value


_PARSERS: Mapping[str, Parser] = {
    "account": _account,
    "wait": whole(1, _LONGEST_WAIT),
    "polls": whole(1, _MOST_POLLS),
    "fair": flag,
    "unwrap": flag,
    "reply_queue": text,
}
