"""Options of the brokers on AWS, as their URLs give them: `SCHEME://[REGION][?option=value...]`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgbus.brokers.hiding import parts_of, shown
from msgbus.brokers.urls import query_of
from msgbus.errors import ConfigError

Parser = Callable[[str, str], Any]
"""From an option's name and text to its value. Raises ConfigError."""

FLAGS = {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}


def options_of(url: str) -> dict[str, str]:
    """All options of a URL, `region` among them. Raises ConfigError for a path, or keys, which have no place there."""
    parts = parts_of(url)
    if parts.path.strip("/") or "@" in parts.netloc:
        raise ConfigError(
            f"{shown(url)}: expected {parts.scheme}://[REGION][?option=value...]; keys come from the AWS chain"
        )
    region = {"region": parts.netloc} if parts.netloc else {}
    return {**region, **dict(query_of(url))}


def take(given: dict[str, str], parsers: Mapping[str, Parser]) -> dict[str, Any]:
    """The values of those that `parsers` know, which are no longer in `given` then."""
    return {name: parsers[name](name, given.pop(name)) for name in list(given) if name in parsers}


def text(_name: str, value: str) -> str:
    """As it is."""
    return value


def flag(name: str, value: str) -> bool:
    """On or off."""
    if value.lower() not in FLAGS:
        raise ConfigError(f"{name}={value!r}: allowed are {', '.join(FLAGS)}")
    return FLAGS[value.lower()]


def whole(least: int, most: int = 1 << 62) -> Parser:
    """A whole number."""

    def parse(name: str, value: str) -> int:
        if not (value.isascii() and value.isdecimal() and len(value) < 19 and least <= int(value) <= most):
            limits = f"from {least}" + (f" to {most}" if most < 1 << 62 else "")
            raise ConfigError(f"{name}={value!r}: a whole number {limits}")
        return int(value)

    return parse


def number(least: float, most: float = float("inf")) -> Parser:
    """A number; infinity is none."""

    def parse(name: str, value: str) -> float:
        parsed = _float(value)
        if not least <= parsed <= most or parsed == float("inf"):
            raise ConfigError(f"{name}={value!r}: a number from {least:g}" + (f" to {most:g}" if most < 1e18 else ""))
        return parsed

    return parse


def positive(name: str, value: str) -> float:
    """A number above 0; infinity is none."""
    parsed = _float(value)
    if not 0 < parsed < float("inf"):
        raise ConfigError(f"{name}={value!r}: a number above 0")
    return parsed


def _float(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return float("nan")
