"""Native retries: not before their delay, counted, nothing changed. And RELEASE, which is no retry."""

# ruff: noqa: S101

from __future__ import annotations

from msgbus import headers as h
from msgbus.message import Act, Settlement, Source
from msgbus.testing.conformance.base import Base
from msgbus.testing.conformance.claims import about, not_claimed
from msgbus.testing.conformance.lab import FIRST_FAILED, INBOX, Lab, bodies, numbers, retries


async def _retrying(lab: Lab, *, short: bool = False) -> Source:
    """A declared source with native retries."""
    source = await lab.home(short=short)
    if lab.broker.capabilities(source).retry_delay is None:
        not_claimed("retry_delay", "the core holds the message, see test_a_failing_message_is_retried_until_dead")
    return source


class RetryTests(Base):
    """RETRY and RELEASE on unordered sources."""

    @about("retry_delay", "retry_resolution")
    async def test_a_retry_comes_after_its_delay(self, lab: Lab) -> None:
        source, delay = await _retrying(lab, short=True), lab.harness.delay
        receiver = await lab.open(source)
        await lab.send(lab.out(source, b"x"))
        held = await lab.collect(receiver, 1)

        async def once() -> None:
            before = held.pop()
            await lab.settle(receiver, [retries(before, delay)])
            held.extend(await lab.collect(receiver, 1))
            assert held[0].attempt == before.attempt + 1

        await lab.takes(once, delay)
        await lab.ack(receiver, held)
        await lab.nothing(receiver, lab.harness.quiet + (lab.harness.lease if lab.can.lease else 0.0))

    @about("retry_delay")
    async def test_a_retry_without_delay_comes_at_once(self, lab: Lab) -> None:
        source = await _retrying(lab)
        receiver = await lab.open(source)
        await lab.send(lab.out(source, b"x"))
        (delivery,) = await lab.collect(receiver, 1)
        await lab.settle(receiver, [retries(delivery)])
        (again,) = await lab.collect(receiver, 1)
        assert (again.body, again.attempt) == (b"x", 2)
        await lab.ack(receiver, [again])

    @about("retry_delay", "counts_deliveries")
    async def test_attempts_count_on(self, lab: Lab) -> None:
        source = await _retrying(lab)
        receiver = await lab.open(source)
        await lab.send(lab.out(source, b"x"))
        for attempt in (1, 2, 3, 4):
            (delivery,) = await lab.collect(receiver, 1)
            assert delivery.attempt == attempt
            assert 1 <= delivery.deliveries <= attempt
            await lab.settle(receiver, [retries(delivery)])
        await lab.ack(receiver, await lab.collect(receiver, 1))

    @about("retry_delay", "headers", "binary")
    async def test_a_retry_changes_nothing_but_the_attempt(self, lab: Lab) -> None:
        source = await _retrying(lab)
        receiver = await lab.open(source)
        out = lab.out(source, bytes(range(256)), key="k", headers={f"user-{n}": f"värde {n}" for n in range(12)})
        inbox = (await lab.open(INBOX)).address if lab.can.reply else "somewhere"
        out.headers |= {h.REPLY_TO: inbox, h.CORRELATION: "correlation", h.CAUSATION: "causation"}
        sent = dict(out.headers)
        await lab.send(out)
        for attempt in (1, 2, 3):
            (delivery,) = await lab.collect(receiver, 1)
            assert delivery.body == bytes(range(256))
            assert {name: delivery.headers.get(name) for name in sent} == sent
            if attempt > 1 and lab.harness.retry_copies:
                assert delivery.headers.get(h.FIRST_FAILED) == FIRST_FAILED
            await lab.settle(receiver, [retries(delivery) if attempt < 3 else Settlement(delivery, Act.ACK)])

    @about("retry_delay")
    async def test_a_waiting_retry_lets_others_pass(self, lab: Lab) -> None:
        source = await _retrying(lab)
        receiver = await lab.open(source)
        await lab.send_numbers(source, [0])
        await lab.settle(receiver, [retries((await lab.collect(receiver, 1))[0], lab.harness.delay)])
        await lab.send_numbers(source, [1])
        got = await lab.collect(receiver, 1)
        got += await lab.collect(receiver, 1)
        assert numbers(got) == [1, 0]
        await lab.ack(receiver, got)

    @about("fanout", "retry_delay")
    async def test_a_retry_goes_to_its_own_group_alone(self, lab: Lab) -> None:
        if not lab.can.fanout:
            not_claimed("fanout", "there are no groups to confuse")
        await _retrying(lab)
        failing, other = await lab.declare(lab.group("failing")), await lab.declare(lab.group("other"))
        await lab.send(lab.out(failing, b"x"))
        receiver = await lab.open(failing)
        await lab.settle(receiver, [retries(delivery) for delivery in await lab.collect(receiver, 1)])
        await lab.ack(receiver, await lab.collect(receiver, 1))
        assert bodies(await lab.drain(other, 1)) == [b"x"]

    @about("release_counts", "counts_deliveries")
    async def test_a_release_is_no_attempt(self, lab: Lab) -> None:
        source = await lab.home(short=True)
        can = lab.broker.capabilities(source)
        first = await lab.open(source)
        await lab.send(lab.out(source, b"x"))
        deliveries = await lab.collect(first, 1)
        await first.stop()
        await lab.settle(first, [Settlement(delivery, Act.RELEASE) for delivery in deliveries])
        await lab.leave(first)
        (again,) = await lab.drain(source, 1)
        assert again.body == b"x"
        if not can.release_counts:
            assert (again.attempt, again.deliveries) == (1, 1)
        elif can.counts_deliveries:
            assert again.deliveries == 2

    @about("lease")
    async def test_a_release_gives_back_at_once(self, lab: Lab) -> None:
        source = await lab.home()  # with the broker's own lease, which is long
        if lab.broker.capabilities(source).lease is None:
            not_claimed("lease", "a release takes effect when the receiver is left, see test_a_release_is_no_attempt")
        receiver = await lab.open(source)
        await lab.send(lab.out(source, b"x"))
        deliveries = await lab.collect(receiver, 1)
        await lab.settle(receiver, [Settlement(delivery, Act.RELEASE) for delivery in deliveries])
        await lab.ack(receiver, await lab.collect(receiver, 1))
