"""How the payloads of one topic are encoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msgbus.codecs import Codec, Coder
from msgbus.errors import ConfigError
from msgbus.topic import type_name, union_members


@dataclass(frozen=True, slots=True)
class Payloads:
    """How the payloads of one topic are encoded: a coder per member of its type, chosen by class."""

    coders: Mapping[type, tuple[Coder, str]]
    fallback: tuple[Coder, str]

    @classmethod
    def of(cls, type_: Any, codec: Codec, what: object) -> Payloads:
        """Compile every member of `type_` with `codec`. Raises ConfigError for one that could not be read back.

        `what`: the topic, queue or call that they are payloads of.
        """
        coders = {}
        for member in union_members(type_):
            coder = codec.bind(member)
            if coder.unreadable:
                raise ConfigError(f"{what!r}: {type_name(member)} could not be read back: {coder.unreadable}")
            if coder.exact is not None:
                coders[coder.exact] = (coder, type_name(member))
        whole = next(iter(coders.values())) if len(coders) == 1 else (codec.bind(type_), type_name(type_))
        return cls(coders, whole)

    def coder_for(self, payload: object) -> tuple[Coder, str]:
        """The coder for a payload whose class is none of the members: a subclass, or a value of a wider type."""
        for coder, name in (*self.coders.values(), self.fallback):
            if coder.accepts(payload):
                return coder, name
        allowed = " or ".join(name for _, name in self.coders.values()) or self.fallback[1]
        raise TypeError(f"the payload is of type {type(payload).__name__}, the type declared is {allowed}")
