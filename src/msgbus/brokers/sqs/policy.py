"""The policy of a queue that lets exactly one topic send to it. Sans-IO.

Source: "Subscribing an Amazon SQS queue to an Amazon SNS topic" in the SNS developer guide.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

_SERVICE = "sns.amazonaws.com"
_ACTION = "sqs:SendMessage"


def allowed(policy: str, queue: str, topic: str) -> bool:
    """Whether the policy has our statement for that topic."""
    return statement(queue, topic) in [_unnamed(each) for each in _statements(policy)]


def with_permission(policy: str, queue: str, topic: str) -> str:
    """The policy with our statement for that topic; those of others stay."""
    ours = {"Sid": "msgbus" + hashlib.sha256(topic.encode()).hexdigest()[:16], **statement(queue, topic)}
    others = [each for each in _statements(policy) if each.get("Sid") != ours["Sid"]]
    document = {**_document(policy), "Version": "2012-10-17", "Statement": [*others, ours]}
    return json.dumps(document, separators=(",", ":"))


def statement(queue: object, topic: object) -> dict[str, Any]:
    """The statement for a topic, by the ARNs of both; whoever wrote it gave it a name of theirs, or none."""
    return {
        "Effect": "Allow",
        "Principal": {"Service": _SERVICE},
        "Action": _ACTION,
        "Resource": queue,
        "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
    }


def _unnamed(each: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in each.items() if name != "Sid"}


def _document(policy: str) -> dict[str, Any]:
    document = json.loads(policy) if policy else {}
    return document if isinstance(document, dict) else {}


def _statements(policy: str) -> list[dict[str, Any]]:
    found = _document(policy).get("Statement") or []
    return [found] if isinstance(found, dict) else list(found)
