"""Direct reply-to addresses that nobody has: they go nowhere or are refused, alone."""

from __future__ import annotations

import base64
import os

import pytest
from tests.amqp.conftest import Connect, take

from msgbus import headers as h
from msgbus.brokers.amqp import AmqpBroker
from msgbus.brokers.mq.rabbitmq import DIRECT_REPLY, unsafe_reply
from msgbus.errors import BusError, Disconnected, Refused, Unavailable
from msgbus.message import Address, Outgoing, Receipt, Source


def _text(term: bytes) -> str:
    return base64.b64encode(term).decode()


PID = bytes((131, 88, 119, 4)) + b"a@bc" + bytes(12)
OLD_PID = bytes((131, 103, 100, 0, 4)) + b"a@bc" + bytes(9)


@pytest.mark.parametrize("name", [f"{DIRECT_REPLY}{_text(term)}.{_text(b'key')}" for term in (PID, OLD_PID)])
def test_a_process_and_a_key_may_be_answered(name: str) -> None:
    assert unsafe_reply(name) == ""


@pytest.mark.parametrize("name", ["", "orders", "amq.gen-abc", DIRECT_REPLY[:-1], DIRECT_REPLY])
def test_other_names_are_no_matter_of_it(name: str) -> None:
    assert unsafe_reply(name) == ""


@pytest.mark.parametrize(
    "pid", ["@@@", "AAAA", "A", ".", *map(_text, (b"", PID[:-1], PID + b"x", b"\0" + PID[1:], b"\x83a\5", PID[:4]))]
)
def test_what_names_no_process_may_not(pid: str) -> None:
    assert unsafe_reply(f"{DIRECT_REPLY}{pid}.{_text(b'key')}")


def _others(address: str) -> dict[str, str]:
    """Well-formed addresses of processes that can't be, by what is odd with them."""
    pid, key = address.removeprefix(DIRECT_REPLY).split(".")
    raw = base64.b64decode(pid)
    end = len(raw) - 12
    terms = {
        "of another key": (raw, os.urandom(16)),
        "of another number": (raw[:end] + bytes(4) + raw[-8:], b"key"),
        "of a number that is too high": (raw[:end] + b"\xff" * 8 + raw[-4:], base64.b64decode(key)),
        "of another node": (raw.replace(raw[4:end], bytes(reversed(raw[4:end]))), base64.b64decode(key)),
    }
    return {what: f"{DIRECT_REPLY}{_text(term)}.{_text(secret)}" for what, (term, secret) in terms.items()}


async def test_a_reply_to_nobody_disturbs_no_other(connect: Connect) -> None:
    requester, responder = await connect(), await connect()
    async with requester.receiver(Source("reply", ""), prefetch=10) as inbox:
        for what, forged in _others(inbox.address).items():
            outs = [_reply(inbox.address, b"before"), _reply(forged, b"odd"), _reply(inbox.address, b"after")]
            before, odd, after = [await _sent(responder, out) for out in outs]
            assert (before, after) == (None, None), what
            assert odd is None or isinstance(odd, Refused), what
            assert {reply.body for reply in await take(inbox, 2)} == {b"before", b"after"}, what


async def test_neighbours_of_a_reply_to_nobody_arrive(connect: Connect) -> None:
    requester, responder = await connect(), await connect()
    async with requester.receiver(Source("reply", ""), prefetch=10) as inbox:
        forged = _others(inbox.address)["of a number that is too high"]
        outs = [_reply(inbox.address, b"before"), _reply(forged, b"odd"), _reply(inbox.address, b"after")]
        unsent = [out for out, result in zip(outs, await responder.send(outs), strict=True) if _is_open(result)]
        results = [await _sent(responder, out) for out in unsent]
        assert all(error is None or isinstance(error, Refused) for error in results)
        assert [out.body for out, error in zip(unsent, results, strict=True) if error] in ([], [b"odd"])
        seen: set[bytes] = set()
        while seen != {b"before", b"after"}:
            seen |= {reply.body for reply in await take(inbox)}


async def _sent(broker: AmqpBroker, out: Outgoing) -> BusError | None:
    """As a link does it: what may not have arrived goes again, over a new connection where the old one ended."""
    while True:
        try:
            (result,) = await broker.send([out])
        except Disconnected:
            await broker.connect()
            continue
        if not _is_open(result):
            return result if isinstance(result, BusError) else None


def _is_open(result: Receipt | BusError) -> bool:
    return isinstance(result, Disconnected | Unavailable)


def _reply(to: str, body: bytes) -> Outgoing:
    return Outgoing(Address("reply", to), _text(os.urandom(9)), body, {h.CORRELATION: "c"})
