"""What middlewares make of a message is looked at too: what no broker could carry is refused, and it alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from msgbus import Outgoing, Receipt, Refused
from msgbus import headers as h
from msgbus.broker import Result
from msgbus.message import Address
from msgbus.publishing.checks import vetting


def _of(name: str, value: object) -> Callable[[Any], object]:
    return lambda out: setattr(out, name, value)


ODD: dict[str, Callable[[Any], object]] = {
    "id": _of("id", 5),
    "empty id": _of("id", ""),
    "key": _of("key", 5),
    "lane": _of("lane", "\ud800"),
    "dedup_id": _of("dedup_id", b"x"),
    "body": _of("body", "text"),
    "delay": _of("delay", float("nan")),
    "negative delay": _of("delay", -1.0),
    "expiry": _of("expires_at", float("inf")),
    "headers": _of("headers", None),
    "header name": lambda out: out.headers.update({5: "x"}),
    "header value": lambda out: out.headers.update({"x": None}),
    "header half a pair": lambda out: out.headers.update({"x": "\ud800"}),
}


def outgoing(number: int) -> Outgoing:
    return Outgoing(Address("queue", "q"), str(number), b"x", {h.ID: str(number)})


@pytest.mark.parametrize("name", sorted(ODD))
async def test_what_a_middleware_spoiled_is_refused_alone(name: str) -> None:
    sent: list[str] = []

    async def send(batch: Sequence[Outgoing]) -> Sequence[Result]:
        sent.extend(out.id for out in batch)
        return [Receipt(out.id) for out in batch]

    batch = [outgoing(number) for number in range(3)]
    ODD[name](batch[1])
    results = await vetting(send)(batch)
    assert [type(result) for result in results] == [Receipt, Refused, Receipt]
    assert sent == ["0", "2"]
    assert [result.id for result in results if isinstance(result, Receipt)] == ["0", "2"]


async def test_where_all_are_spoiled_nothing_is_sent() -> None:
    async def send(batch: Sequence[Outgoing]) -> Sequence[Result]:
        raise AssertionError("an empty batch")

    (result,) = await vetting(send)([Outgoing(Address("queue", "q"), "", b"x", {})])
    assert isinstance(result, Refused)
