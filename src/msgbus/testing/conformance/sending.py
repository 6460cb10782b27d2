"""Sending: one result per entry, limits, delays, expiry, deduplication."""

# ruff: noqa: S101

from __future__ import annotations

import asyncio

import pytest

from msgbus import headers as h
from msgbus.errors import BusError, Disconnected, Refused
from msgbus.message import Address, Outgoing, Receipt
from msgbus.publishing.chunks import wire_size
from msgbus.testing.conformance.base import Base
from msgbus.testing.conformance.claims import about, not_claimed
from msgbus.testing.conformance.lab import Lab, bodies, numbers

_LARGE = 2**21  # bytes: enough where there is no limit, and no more than this is tried


class SendTests(Base):
    """`send`, entry by entry."""

    @about("message_bytes", "queues")
    async def test_a_bad_entry_fails_alone(self, lab: Lab) -> None:
        source = await lab.home()
        outs = [lab.out(source, number) for number in range(5)]
        bad = set()
        if lab.can.queues:
            outs[0].address = Address("queue", lab.prefix + "missing")
            bad.add(0)
        if lab.can.message_bytes is not None:
            outs[3].body = b"x" * (lab.can.message_bytes + 1)
            bad.add(3)
        if not bad:
            pytest.skip("capabilities 'queues' and 'message_bytes' are not claimed: no entry can be made to fail")
        results = await lab.try_send(*outs)
        assert [type(result) for result in results] == [Refused if i in bad else Receipt for i in range(5)]
        assert sorted(numbers(await lab.drain(source, 5 - len(bad)))) == sorted(set(range(5)) - bad)

    @about("send_batch")
    async def test_what_the_server_refuses_fails_alone(self, lab: Lab) -> None:
        lab.harness.needs("spoil")
        source = await lab.home()
        outs = lab.fit(*(lab.out(source, number) for number in range(3)))
        lab.harness.spoil(outs[0])
        size = lab.can.send_batch
        results: list[Receipt | BusError] = []
        for start in range(0, 3, size):
            results += await lab.broker.send(outs[start : start + size])
        assert [type(result) for result in results] == [Refused, Receipt, Receipt]
        assert lab.broker.status().connected
        assert sorted(numbers(await lab.drain(source, 2))) == [1, 2]

    @about("send_batch")
    async def test_a_receipt_carries_the_id(self, lab: Lab) -> None:
        source = await lab.home()
        outs = [lab.out(source, number) for number in range(3)]
        results = await lab.try_send(*outs)
        assert [result.id for result in results if isinstance(result, Receipt)] == [out.id for out in outs]

    @about("send_batch")
    async def test_sending_while_closed_is_disconnected(self, lab: Lab) -> None:
        source = await lab.home()
        broker = await lab.second()
        await broker.close()
        with pytest.raises(Disconnected):
            await broker.send(lab.fit(lab.out(source, b"x")))
        await lab.empty(source)

    @about("message_bytes", "send_bytes")
    async def test_a_message_of_the_largest_size_arrives(self, lab: Lab) -> None:
        source = await lab.home()
        out = lab.out(source, b'""', content_type="application/json")
        lab.fit(probe := _copy(out))
        room = min(lab.can.message_bytes or _LARGE, _LARGE) - wire_size(probe)
        out.body = b'"' + b"x" * room + b'"'
        await lab.send(out)
        (delivery,) = await lab.drain(source, 1)
        assert len(delivery.body) == room + 2
        assert set(delivery.body[1:-1]) == {ord("x")}

    @about("message_bytes")
    async def test_a_message_over_the_limit_is_refused(self, lab: Lab) -> None:
        limit = lab.can.message_bytes
        if limit is None:
            not_claimed("message_bytes", "there is no limit, see test_a_message_of_the_largest_size_arrives")
        source = await lab.home()
        body = b'"' + b"x" * (limit - 1) + b'"'
        (result,) = await lab.try_send(lab.out(source, body, content_type="application/json"))
        assert isinstance(result, Refused)
        await lab.empty(source)

    @about("send_bytes")
    async def test_a_batch_of_large_messages_arrives(self, lab: Lab) -> None:
        source = await lab.home()
        size = min(lab.can.message_bytes or _LARGE, lab.can.send_bytes or _LARGE, _LARGE) // 4
        body = b'"' + b"x" * size + b'"'
        await lab.send(*(lab.out(source, body, content_type="application/json") for _ in range(6)))
        assert bodies(await lab.drain(source, 6)) == [body] * 6

    @about("send_delay", "retry_resolution")
    async def test_a_delayed_message_comes_after_its_delay(self, lab: Lab) -> None:
        if lab.can.send_delay is None:
            not_claimed("send_delay", "the bus refuses it, see test_delays_are_refused_where_there_are_none")
        source = await lab.home()
        receiver = await lab.open(source)

        async def once() -> None:
            await lab.send(lab.out(source, 1, delay=lab.harness.delay), lab.out(source, 2))
            got = await lab.collect(receiver, 2)
            assert numbers(got) == [2, 1]
            await lab.ack(receiver, got)

        await lab.takes(once, lab.harness.delay)

    @about("send_delay")
    async def test_the_longest_delay_is_accepted(self, lab: Lab) -> None:
        if lab.can.send_delay is None:
            not_claimed("send_delay", "the bus refuses it, see test_delays_are_refused_where_there_are_none")
        source = await lab.home()
        await lab.send(lab.out(source, 1, delay=lab.can.send_delay))
        await lab.empty(source)

    @about("expiry")
    async def test_an_expired_message_is_dropped_by_the_broker_or_kept(self, lab: Lab) -> None:
        source = await lab.home()
        outs = [lab.out(source, number) for number in range(2)]
        _expire(lab, outs[0], lab.harness.delay)
        await lab.send(*outs)
        await asyncio.sleep(lab.harness.delay + lab.harness.quiet)  # time itself is what is awaited
        expected = [1] if lab.can.expiry else [0, 1]  # where not claimed, the consumer looks at the header
        assert sorted(numbers(await lab.drain(source, len(expected)))) == expected

    @about("expiry")
    async def test_a_message_that_does_not_expire_yet_arrives(self, lab: Lab) -> None:
        source = await lab.home()
        out = lab.out(source, 1)
        _expire(lab, out, 3600.0)
        expires = out.headers[h.EXPIRES]
        await lab.send(out)
        (delivery,) = await lab.drain(source, 1)
        assert delivery.headers[h.EXPIRES] == expires

    @about("dedup_window")
    async def test_a_repeated_deduplication_id(self, lab: Lab) -> None:
        source = await lab.home(ordered=lab.can.order != "none")
        window = lab.broker.capabilities(source).dedup_window
        for number in range(2):
            out = lab.out(source, number, key="k", id=f"{lab.prefix}same")
            out.dedup_id = out.id
            await lab.send(out)
        expected = [0] if window is not None else [0, 1]
        assert sorted(numbers(await lab.drain(source, len(expected)))) == expected

    @about("dedup_window")
    async def test_a_message_sent_again_is_not_swallowed(self, lab: Lab) -> None:
        source = await lab.home(ordered=lab.can.order != "none")
        out = lab.out(source, 0, key="k")
        await lab.send(out)
        for number in (1, 2):
            (delivery,) = await lab.drain(source, 1)
            again = lab.out(source, number, key="k", id=out.id, headers=delivery.headers)
            again.headers[h.HOP], again.dedup_id = h.resend_id(delivery.headers, out.id)
            await lab.send(again)
        (last,) = await lab.drain(source, 1)
        assert (last.body, last.headers[h.ID], last.headers[h.HOP]) == (b"2", out.id, "2")


def _copy(out: Outgoing) -> Outgoing:
    return Outgoing(out.address, out.id, out.body, dict(out.headers), out.key, lane=out.lane)


def _expire(lab: Lab, out: Outgoing, seconds: float) -> None:
    out.expires_at = lab.time() + seconds
    out.headers[h.EXPIRES] = h.rfc3339(out.expires_at)
