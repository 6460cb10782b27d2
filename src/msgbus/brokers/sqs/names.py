"""From names of msgbus to names, ARNs and group ids of AWS.

Source: "Quotas" in the SQS and SNS developer guides: queue names have 1 to 80 letters, digits, `-` and `_`, topic
names 256, both with `.fifo` at the end where they keep order; group and deduplication ids have 1 to 128 letters,
digits and punctuation.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

from msgbus.brokers.aws.arns import partition_of
from msgbus.brokers.naming import joined
from msgbus.errors import Refused
from msgbus.message import Address, Source

FIFO = ".fifo"
DEAD = "-dead"
REPLY_PREFIX = "msgbus-reply-"
INBOXES = rf"https?://[^/?#]+/(?:[^/?#]+/)*{REPLY_PREFIX}[A-Za-z0-9_-]+"
"""The URL of a queue that has the name of a reply inbox."""

_QUEUE_LENGTH = 80
_ID = re.compile(r"[!-~]{1,128}")
_ARN = re.compile(
    r"arn:(?P<partition>[a-z-]+):(?P<service>sqs|sns):(?P<region>[a-z0-9-]+):(?P<account>\d{12}):(?P<name>.+)"
)


def queue_name(address: Address, *, ordered: bool) -> str:
    """The queue of a queue, or of a group of a topic: `NAME` or `TOPIC--GROUP`, with `.fifo` where ordered.

    A dot, which SQS has not, becomes `-` and adds a hash, so that `a.b` and `a-b` stay two queues; so does a name that
    could be read as that of another group.
    """
    stem = _stem(address.name)
    plain = joined(stem, address.group, "--", DEAD) if address.group else stem
    return _fitted(plain, _QUEUE_LENGTH, ordered=ordered or address.name.endswith(FIFO))


def topic_name(name: str, *, ordered: bool) -> str:
    """The SNS topic of a topic, by the same rules."""
    return _fitted(_stem(name), 256, ordered=ordered or name.endswith(FIFO))


def dead_name(queue: str) -> str:
    """The dead-letter queue of a queue; that of a FIFO queue must be one too."""
    return _fitted(_stem(queue) + DEAD, _QUEUE_LENGTH, ordered=queue.endswith(FIFO))


def is_fifo(name_or_url: str) -> bool:
    """Whether a queue or topic keeps order: AWS says so in its name."""
    return name_or_url.endswith(FIFO)


def sized_id(text: str) -> str:
    """A group or deduplication id: the text itself where AWS takes it, else its hash."""
    if _ID.fullmatch(text):
        return text
    return "sha256-" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def dead_source(queue: str) -> Source:
    """The Source that reads a dead-letter queue."""
    return Source("queue", queue.removesuffix(FIFO), ordered=queue.endswith(FIFO))


def arn(service: str, region: str, account: str, name: str) -> str:
    """The ARN of a queue or topic."""
    return f"arn:{partition_of(region)}:{service}:{region}:{account}:{name}"


class Place(NamedTuple):
    """What an ARN names. `service`: "sqs" or "sns"."""

    service: str
    region: str
    account: str
    name: str


def parse_arn(text: str) -> Place:
    """The ARN of a queue or topic. Raises Refused."""
    match = _ARN.fullmatch(text)
    if match is None:
        raise Refused(f"{text!r} is no ARN of a queue or topic: expected arn:aws:sqs:REGION:ACCOUNT:NAME")
    return Place(match["service"], match["region"], match["account"], match["name"])


def split_arn(text: str) -> tuple[str, str]:
    """Account and name of a queue's or topic's ARN. Raises Refused."""
    place = parse_arn(text)
    return place.account, place.name


def _stem(name: str) -> str:
    return name.removesuffix(FIFO)


def _fitted(name: str, longest: int, *, ordered: bool) -> str:
    suffix = FIFO if ordered else ""
    room = longest - len(suffix)
    plain = name.replace(".", "-")
    if plain != name or len(plain) > room:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        plain = f"{plain[: room - 9]}-{digest}"
    return plain + suffix
