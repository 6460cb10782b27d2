"""Declares exchanges and queues, and finds out how what is there differs."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pamqp.base import Frame
from pamqp.commands import Exchange, Queue

from msgbus.broker import Difference, Mode
from msgbus.brokers.amqp.errors import ACCESS_REFUSED, PRECONDITION, has_code
from msgbus.brokers.amqp.planning import exchange as exchange_of
from msgbus.brokers.amqp.queues import Arguments
from msgbus.brokers.amqp.topology import ask, is_missing
from msgbus.brokers.amqp.wire import Wire
from msgbus.brokers.mq.errors import said
from msgbus.errors import BusError, Refused

_VALUE = r"(?:none|(?:the value )?'([^']*)'(?: of type '[^']*')?)"
_INEQUIVALENT = re.compile(rf"inequivalent arg '([^']+)' .*received {_VALUE} but current is {_VALUE}")
_HARMLESS = ("x-delivery-limit",)  # another crash-loop cap breaks no promise
_MOST = 12  # differences of one queue that are looked for


async def exchange(wire: Wire, name: str, mode: Mode) -> list[Difference]:
    """A durable topic exchange. Raises Refused where it is there as something else, in mode "create"."""
    part = f"topic {name}: exchange {name}"

    def declare(*, passive: bool = False) -> Frame:
        return Exchange.Declare(exchange=name, **exchange_of(name).properties, passive=passive)

    if await is_missing(wire, declare(passive=True)):
        if mode == "create":
            await ask(wire, declare())
        return [Difference(part, "there", "missing", made=mode == "create")]
    wanted, found = await _difference(wire, declare())
    return _told(part, {wanted: found} if wanted else {}, mode)


async def queue(wire: Wire, part: str, name: str, arguments: Arguments, mode: Mode) -> list[Difference]:
    """A durable queue. Raises Refused where what is there would break a promise, in mode "create"."""
    part = f"{part}: queue {name}"
    if await is_missing(wire, Queue.Declare(queue=name, passive=True)):
        if mode == "create":
            await ask(wire, _declare(name, arguments))
        return [Difference(part, "there", "missing", made=mode == "create")]
    return _told(part, await _differences(wire, name, dict(arguments)), mode)


async def _differences(wire: Wire, name: str, arguments: Arguments) -> dict[str, str]:
    """Wanted -> found. The server names one at a time: take over what it has, and ask again."""
    differences: dict[str, str] = {}
    for _ in range(_MOST):
        wanted, found = await _difference(wire, _declare(name, arguments))
        if not wanted:
            break
        differences[wanted] = found
        argument, _, value = found.partition("=")
        if argument not in arguments and not value:
            break
        arguments.pop(argument, None)
        if value and value != "none":
            arguments[argument] = _typed(value)
    return differences


async def _difference(wire: Wire, declare: Frame) -> tuple[str, str]:
    """Wanted and found, as "argument=value"; empty where all is as wanted, or where we may not ask."""
    try:
        await ask(wire, declare)
    except BusError as error:
        if has_code(error, ACCESS_REFUSED):
            return "", ""
        told = said(error)
        if told is None or told.code != PRECONDITION:
            raise
        match = _INEQUIVALENT.search(told.text)
        if match is None:
            return "as declared", told.text
        argument, wanted, found = match.groups()
        return f"{argument}={wanted or 'none'}", f"{argument}={found or 'none'}"
    return "", ""


def _told(part: str, differences: Mapping[str, str], mode: Mode) -> list[Difference]:
    told = [Difference(part, wanted, found) for wanted, found in differences.items()]
    harmful = [d for d in told if d.wanted.partition("=")[0] not in _HARMLESS]
    if harmful and mode == "create":
        listed = "; ".join(f"wanted {d.wanted}, found {d.found}" for d in harmful)
        raise Refused(f"{part} is there, but not as declared: {listed}. Delete it, or set MSGBUS_PROVISION=trust")
    return told


def _declare(name: str, arguments: Arguments) -> Frame:
    return Queue.Declare(queue=name, durable=True, arguments=dict(arguments))


def _typed(text: str) -> object:
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.lstrip("-").isdecimal() else text
