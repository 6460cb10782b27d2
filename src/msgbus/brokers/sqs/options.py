"""What the URL of the broker says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, urlsplit

from msgbus.brokers.aws import AwsSettings
from msgbus.brokers.sqs.names import Place, parse_arn
from msgbus.errors import ConfigError, Refused
from msgbus.message import Address

_LONGEST_WAIT = 20  # seconds, of ReceiveMessage
_MOST_POLLS = 64
_AT = "at."
_PLAIN = ("account", "wait", "polls", "fair", "unwrap", "reply_queue")
_FLAGS = {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class SqsOptions:
    """`sqs://[REGION][?option=value...]`; whatever is not here is an option of `AwsSettings`.

    `account`: the account that owns queues and topics, 12 digits; by default that of the credentials.
    `wait`: seconds of one long poll, whole, 1 to 20; a stop takes at most so long. `polls`: long polls in flight
    per receiver under load, 1 to 64. `fair`: send a message's key as group id to standard queues and topics.
    `unwrap`: open the envelopes of SNS (subscriptions without raw delivery) and EventBridge.
    `reply_queue`: the name of a queue for replies, where CreateQueue is not allowed; one process alone may use it.
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
    parts = urlsplit(url)
    if parts.path.strip("/") or "@" in parts.netloc:
        raise ConfigError(f"{_plain(url)}: expected sqs://[REGION][?option=value...]; keys come from the AWS chain")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.netloc:
        given.setdefault("region", parts.netloc)
    own = {name: given.pop(name) for name in _PLAIN if name in given}
    places = dict(_place(name, given.pop(name)) for name in list(given) if name.startswith(_AT))
    return AwsSettings.from_options(given), replace(_parse(own), places=places)


def _place(option: str, text: str) -> tuple[Address, Place]:
    """`at.NAME` or `at.TOPIC/GROUP`; the ARN says whether NAME is a queue or a topic."""
    try:
        place = parse_arn(text)
    except Refused as error:
        raise ConfigError(f"{option}: {error}") from error
    name, _, group = option.removeprefix(_AT).partition("/")
    if not name or (group and place.service != "sqs"):
        raise ConfigError(f"{option}={text}: expected at.TOPIC=ARN of sns, at.QUEUE or at.TOPIC/GROUP=ARN of sqs")
    return Address("topic" if group or place.service == "sns" else "queue", name, group), place


def _parse(given: Mapping[str, str]) -> SqsOptions:
    defaults = SqsOptions()
    account = given.get("account", "")
    if account and not (account.isdecimal() and len(account) == 12):
        raise ConfigError(f"account={account!r}: an AWS account has 12 digits")
    return SqsOptions(
        account=account,
        wait=_whole("wait", given, defaults.wait, _LONGEST_WAIT),
        polls=_whole("polls", given, defaults.polls, _MOST_POLLS),
        fair=_flag("fair", given),
        unwrap=_flag("unwrap", given),
        reply_queue=given.get("reply_queue", ""),
    )


def _whole(name: str, given: Mapping[str, str], default: int, most: int) -> int:
    text = given.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 4 and 1 <= int(text) <= most):
        raise ConfigError(f"{name}={text!r}: a whole number from 1 to {most}")
    return int(text)


def _flag(name: str, given: Mapping[str, str]) -> bool:
    text = given.get(name, "on").lower()
    if text not in _FLAGS:
        raise ConfigError(f"{name}={text!r}: allowed are {', '.join(_FLAGS)}")
    return _FLAGS[text]


def _plain(url: str) -> str:
    """Without what may be a secret."""
    return url.rpartition("@")[2].partition("?")[0]
