"""Checks what is planned for AWS against what its tools and services know, none of which is asked over the network.

- cfn-lint has the schemas of CloudFormation, and which resources each IAM action takes.
- `terraform_aws.json`: arguments, required ones and some attributes of the resources that msgbus writes, taken from
  the schema of hashicorp/aws 6.25.0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import cfnlint  # type: ignore[import-untyped]
from cfnlint.api import lint  # type: ignore[import-untyped]
from cfnlint.config import ManualArgs  # type: ignore[import-untyped]

_SCHEMA: Mapping[str, Any] = json.loads((Path(__file__).parent / "terraform_aws.json").read_text())
_KINDS = {"string": str, "number": (int, float), "bool": bool}
_REFERENCE = re.compile(r"(?<!\$)\$\{([^}]+)\}")


def cloudformation_faults(text: str) -> list[str]:
    """What cfn-lint says of a template; its hints are none."""
    found = lint(text, config=ManualArgs(regions=["eu-west-1"], ignore_checks=["I"]))
    return [f"{each.rule.id} {'/'.join(map(str, each.path or ()))}: {each.message}" for each in found]


# -- Terraform


def terraform_faults(text: str) -> list[str]:
    """What is unknown, missing, of the wrong type or refers to nothing in a configuration."""
    configuration = json.loads(text)
    faults = []
    for kind, named in configuration["resource"].items():
        for name, arguments in named.items():
            faults += [f"{kind}.{name}: {fault}" for fault in _argument_faults(kind, arguments)]
    return faults + [f"${{{each}}} is not there" for each in _references(configuration) if not _is(configuration, each)]


def _argument_faults(kind: str, arguments: Mapping[str, Any]) -> Iterator[str]:
    if kind not in _SCHEMA:
        yield "no such kind"
        return
    known = _SCHEMA[kind]
    yield from (f"{name} is missing" for name in known["required"] if name not in arguments)
    for name, value in arguments.items():
        if name not in known["arguments"] or not _fits(value, known["arguments"][name]):
            yield f"{name}={value!r} is no {known['arguments'].get(name, 'argument')}"


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(kind, str):
        return isinstance(value, _KINDS[kind]) and (kind == "bool" or not isinstance(value, bool))  # type: ignore[arg-type]
    if isinstance(kind, dict):
        return isinstance(value, dict) and all(name in kind and _fits(each, kind[name]) for name, each in value.items())
    inner = value.values() if kind[0] == "map" else value
    return isinstance(value, dict if kind[0] == "map" else list) and all(_fits(each, kind[1]) for each in inner)


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from _REFERENCE.findall(value)
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _references(each)


def _is(configuration: Mapping[str, Any], reference: str) -> bool:
    *path, name, attribute = reference.split(".")
    kind = ".".join(path)
    section = configuration["data" if path[0] == "data" else "resource"]
    return name in section.get(path[-1], {}) and attribute in _SCHEMA[kind]["attributes"]


# -- rights


@cache
def _actions() -> Mapping[str, Any]:
    path = Path(cfnlint.__file__).parent / "data/AdditionalSpecs/Policies.json"
    found: Mapping[str, Any] = json.loads(path.read_text())
    return found


def right_faults(policy: Mapping[str, Any]) -> list[str]:
    """Actions that no service has, and resources that an action is not about."""
    return [
        f"{action} is not about {place}"
        for statement in policy["Statement"]
        for action in statement["Action"]
        for place in statement["Resource"]
        if not _is_about(action, place)
    ]


def _is_about(action: str, place: str) -> bool:
    service, name = action.split(":")
    known = _actions()[service]
    if name.lower() not in known["Actions"]:
        return False
    kinds = known["Actions"][name.lower()].get("Resources", [])
    forms = [form for kind in kinds for form in known["Resources"][kind]["ARNFormats"]]
    return any(_pattern(form).fullmatch(place) for form in forms) if forms else place == "*"


def _pattern(form: str) -> re.Pattern[str]:
    for name in ("Partition", "Region", "Account"):
        form = form.replace(f"${{{name}}}", "[^:]*")
    return re.compile(form)


def allows(policy: Mapping[str, Any], action: str, arn: str) -> bool:
    """Whether a policy of ours, which only allows, lets an action be done."""
    return any(
        action in statement["Action"] and any(fnmatchcase(arn, place) for place in statement["Resource"])
        for statement in policy["Statement"]
    )
