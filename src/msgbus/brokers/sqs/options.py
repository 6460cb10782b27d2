"""What the URL of the broker says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from msgbus.brokers.aws import AwsSettings
from msgbus.errors import ConfigError

_LONGEST_WAIT = 20  # seconds, of ReceiveMessage
_MOST_POLLS = 64
_FLAGS = {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class SqsOptions:
    """`sqs://[REGION][?option=value...]`; whatever is not here is an option of `AwsSettings`.

    `account`: the account that owns queues and topics, 12 digits; by default that of the credentials.
    `wait`: seconds of one long poll, whole, 1 to 20; a stop takes at most so long. `polls`: long polls in flight
    per receiver under load, 1 to 64. `fair`: send a message's key as group id to standard queues and topics.
    `unwrap`: open the envelopes of SNS (subscriptions without raw delivery) and EventBridge.
    `reply_queue`: the name of a queue for replies, where CreateQueue is not allowed; one process alone may use it.
    """

    account: str = ""
    wait: int = 2
    polls: int = 8
    fair: bool = True
    unwrap: bool = True
    reply_queue: str = ""


def parse_url(url: str) -> tuple[AwsSettings, SqsOptions]:
    """Both kinds of options of a broker URL. Raises ConfigError naming the option and what is allowed."""
    parts = urlsplit(url)
    if parts.path.strip("/") or "@" in parts.netloc:
        raise ConfigError(f"{_plain(url)}: expected sqs://[REGION][?option=value...]; keys come from the AWS chain")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.netloc:
        given.setdefault("region", parts.netloc)
    own = {name: given.pop(name) for name in SqsOptions.__slots__ if name in given}
    return AwsSettings.from_options(given), _parse(own)


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
