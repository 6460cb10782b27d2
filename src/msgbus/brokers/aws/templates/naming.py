"""What several plans say, together: each thing once, under a name that depends on nothing else in the template."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgbus.brokers.aws.arns import Arn
from msgbus.brokers.plan import Plan, Resource, Right

ARN_SERVICES: Mapping[str, tuple[str, str]] = {
    "SQS queue": ("sqs", ""),
    "SNS topic": ("sns", ""),
    "Kinesis stream": ("kinesis", "stream/"),
    "DynamoDB table": ("dynamodb", "table/"),
}
"""Kind of a resource -> the service of its ARN, and what stands before the name in it."""


def resources_of(plans: Iterable[Plan]) -> list[Resource]:
    """All that is to be made, in order, each once."""
    found: dict[tuple[str, str], Resource] = {}
    for plan in plans:
        for resource in plan.resources:
            if not resource.given:
                found.setdefault((resource.kind, resource.name), resource)
    return list(found.values())


def word_of(resource: Resource) -> str:
    """A name in a template, by what it is and is called; a hash keeps `a-b` and `a.b` apart."""
    words = re.findall(r"[A-Za-z0-9]+", f"{resource.name.removesuffix('.fifo')} {resource.kind.split(' ', 1)[-1]}")
    digest = hashlib.sha256(str(resource).encode()).hexdigest()[:6]
    return "".join(word[0].upper() + word[1:] for word in words) + digest.upper()


def owner_of(arn: Arn, resources: Iterable[Resource]) -> Resource | None:
    """The resource in a template that has this ARN."""
    for resource in resources:
        service, before = ARN_SERVICES.get(resource.kind, ("", ""))
        if service == arn.service and arn.resource == before + resource.name:
            return resource
    return None


def document(plans: Sequence[Plan]) -> dict[str, Any]:
    """The policy of all rights: one statement for the places that the same actions are for."""
    together: dict[tuple[str, tuple[str, ...]], dict[Any, None]] = {}
    for right in _all(plans):
        together.setdefault((right.purpose, right.actions), {}).update(dict.fromkeys(right.places))
    statements: dict[str, dict[str, Any]] = {}
    for (purpose, actions), places in together.items():
        sid = purpose if purpose not in statements else f"{purpose}{len(statements)}"  # each needs its own
        statements[sid] = {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": list(places)}
    return {"Version": "2012-10-17", "Statement": list(statements.values())}


def _all(plans: Iterable[Plan]) -> Iterable[Right]:
    for plan in plans:
        yield from plan.rights


def mapped(value: Any, text: Callable[[str], Any], arn: Callable[[Arn], Any]) -> Any:
    """The value with each text in it, and each ARN, replaced."""
    if isinstance(value, Arn):
        return arn(value)
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {text(name): mapped(each, text, arn) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [mapped(each, text, arn) for each in value]
    return value
