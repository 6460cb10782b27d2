"""What a broker would make for a service, and what it must be allowed to do, as data: known without a connection.

A broker that can say it has a method `plan` (`Plans`); so may a store of large bodies. The same functions that make a
plan's resources give `Admin.ensure` what it creates, so that what is printed can't drift from what is made. The core
knows no kind of resource: a plan brings the formats that can be written of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from msgbus.broker import Mode, Part
from msgbus.message import Source

Role = Literal["consume", "answer", "publish", "send", "request"]
"""What a service does: handles messages, answers requests; publishes to a topic, sends to a queue, requests."""


@dataclass(frozen=True, slots=True)
class Use:
    """One thing that a service does: its role, on what (a topic without a group where it publishes), what must exist.

    `parts` are what the service makes itself, so none for the queue that it sends to.
    """

    role: Role
    source: Source
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One thing on the server. `kind` as people call it ("SQS queue"), `name` as the server does.

    `properties` are those of the server's own call that creates it, not yet encoded. `given`: somebody else's, which
    is used and never made. `named`: it is something to look for by its name, and not a part of something else.
    """

    kind: str
    name: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    given: bool = False
    named: bool = True

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Right:
    """What must be allowed: actions, and on what; `purpose` in one word of letters."""

    purpose: str
    actions: tuple[str, ...]
    places: tuple[Any, ...]


Render = Callable[[Sequence["Plan"]], str]
"""Writes plans together in one format: those of all brokers (and the store) that name the same function."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Resources in the order in which they are made, rights, and by name the formats that both can be written in.

    `render` of a format raises ConfigError where something is missing that only the caller can say.
    """

    resources: Sequence[Resource] = ()
    rights: Sequence[Right] = ()
    formats: Mapping[str, Render] = field(default_factory=dict)


@runtime_checkable
class Plans(Protocol):
    """A Broker or a BodyStore that can say beforehand what it would make and what it must be allowed to do."""

    def plan(self, uses: Sequence[Use], mode: Mode) -> Plan:
        """For these uses, with the rights that `provision=mode` needs. Needs no connection. Raises ConfigError."""
        ...
