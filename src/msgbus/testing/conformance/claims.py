"""Ties each test to the capabilities that it checks, and skips by their names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import NoReturn, TypeVar

import pytest

from msgbus.broker import Capabilities

F = TypeVar("F", bound=Callable[..., object])

_NAMES = frozenset(field.name for field in fields(Capabilities))
_TIED = "msgbus_capabilities"


def about(*names: str) -> Callable[[F], F]:
    """Say which fields of Capabilities a test checks, as claimed or as not claimed."""
    if unknown := set(names) - _NAMES:
        raise TypeError(f"Capabilities has no {sorted(unknown)}")

    def tie(test: F) -> F:
        setattr(test, _TIED, names)
        return test

    return tie


def coverage(suite: type) -> dict[str, list[str]]:
    """Every field of Capabilities, and the names of the tests of `suite` that check it."""
    found: dict[str, list[str]] = {name: [] for name in sorted(_NAMES)}
    for test in dir(suite):
        for name in getattr(getattr(suite, test), _TIED, ()):
            found[name].append(test)
    return found


def not_claimed(name: str, instead: str) -> NoReturn:
    """Skip a test, naming the capability; `instead`: what covers the broker that does not claim it."""
    assert name in _NAMES  # noqa: S101
    pytest.skip(f"capability {name!r} is not claimed: {instead}")
