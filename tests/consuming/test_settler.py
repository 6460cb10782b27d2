"""Settlements: gathered, one result per entry, tried again where that can help."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.scripted import PLAIN, HandClock, ScriptedBroker, ScriptedReceiver, delivery, subscription_on, turns

from msgbus.broker import Capabilities
from msgbus.consuming.policy import Policy
from msgbus.consuming.settler import Settler
from msgbus.errors import BusError, Disconnected, LeaseLost, ReceiverClosed, Refused, Throttled, Unavailable
from msgbus.message import Act, Settlement, Source

SOURCE = Source("queue", "work")


class Bench:
    """A settler on a scripted receiver, and what it reported."""

    def __init__(
        self,
        clock: HandClock,
        capabilities: Capabilities = PLAIN,
        receiver: type[ScriptedReceiver] = ScriptedReceiver,
    ) -> None:
        self.broker = ScriptedBroker(capabilities)
        self.results: list[tuple[str, str]] = []
        self.lost: set[str] = set()
        loop = asyncio.get_running_loop()
        self.policy = Policy(subscription_on(SOURCE, capabilities), clock.time)
        self.settler = Settler(
            receiver(self.broker, SOURCE, 10),
            capabilities,
            clock,
            self,
            self.policy.after_refusal,
            loop,
        )
        slots = capabilities.settle_slots
        self.tasks = [loop.create_task(self.settler.run(copies=slot > 0 or slots == 1)) for slot in range(slots)]

    def accepted(self, batch: Sequence[Settlement]) -> None:
        """As Results.accepted."""
        self.ended(batch, [None] * len(batch))

    def ended(self, batch: Sequence[Settlement], results: Sequence[BusError | None]) -> None:
        """As Results.ended."""
        for settlement, result in zip(batch, results, strict=True):
            self.results.append((settlement.delivery.headers["ce-id"], type(result).__name__))

    def is_over(self, settlement: Settlement) -> bool:
        """As Results.is_over."""
        return settlement.delivery.headers["ce-id"] in self.lost

    def add(self, *ids: str, act: Act = Act.ACK) -> None:
        """Settle these."""
        for message_id in ids:
            self.settler.add(Settlement(delivery(SOURCE, message_id), act))

    def sizes(self) -> list[int]:
        """Of the calls of `settle`."""
        return [len(call) for call in self.broker.settle_calls]

    async def close(self) -> None:
        """End the flushers."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_what_comes_in_one_turn_goes_out_together(clock: HandClock) -> None:
    bench = Bench(clock)
    await turns()
    bench.add(*"abc")
    await turns()
    assert bench.sizes() == [3]
    assert bench.results == [(i, "NoneType") for i in "abc"]
    await bench.close()


async def test_no_call_is_larger_than_the_broker_allows(clock: HandClock) -> None:
    bench = Bench(clock, replace(PLAIN, settle_batch=4, settle_slots=2))
    await turns()
    bench.add(*map(str, range(30)))
    await bench.settler.flush()
    assert sum(bench.sizes()) == 30
    assert max(bench.sizes()) == 4
    assert sorted(message_id for message_id, _ in bench.results) == sorted(map(str, range(30)))
    await bench.close()


async def test_a_full_batch_does_not_linger_and_the_rest_goes_with_the_flush(clock: HandClock) -> None:
    bench = Bench(clock, replace(PLAIN, settle_batch=3, settle_linger=3600.0))
    await turns()
    bench.add("a", "b")
    await turns()
    assert bench.sizes() == []
    bench.add("c", "d")
    await turns()
    assert bench.sizes()[0] == 3
    await bench.settler.flush()
    assert sum(bench.sizes()) == 4
    await bench.close()


async def test_only_what_was_throttled_is_tried_again(clock: HandClock) -> None:
    bench = Bench(clock)
    answers: dict[str, list[BusError | None]] = {
        "b": [Throttled("slow"), Unavailable("down"), None],
        "c": [LeaseLost("late")],
    }
    bench.broker.on_settle = lambda s: answers.get(s.delivery.headers["ce-id"], [None]).pop(0)
    await turns()
    bench.add(*"abcd")
    await clock.until(lambda: len(bench.results) == 4)
    assert bench.sizes() == [4, 1, 1]
    assert dict(bench.results) == {"a": "NoneType", "b": "NoneType", "c": "LeaseLost", "d": "NoneType"}
    await bench.close()


async def test_a_refused_settlement_is_an_error_that_is_logged_and_ends(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "msgbus")
    bench = Bench(clock)
    bench.broker.on_settle = lambda s: Refused("malformed")
    await turns()
    bench.add("a")
    await turns()
    assert bench.results == [("a", "Refused")]
    assert "queue work: can't be settled" in caplog.text
    await bench.close()


@pytest.mark.parametrize("error", [Disconnected("cut"), ReceiverClosed("closed")])
async def test_a_dead_receiver_ends_the_flusher(clock: HandClock, error: BusError) -> None:
    bench = Bench(clock)
    bench.broker.on_settle = lambda s: error
    await turns()
    bench.add("a")
    await turns()
    with pytest.raises(type(error)):
        bench.tasks[0].result()


async def test_a_refused_dead_letter_goes_back_with_a_delay(clock: HandClock) -> None:
    bench = Bench(clock)
    bench.broker.on_settle = lambda s: Refused("too large") if s.act is Act.DEAD else None
    await turns()
    bench.add("a", act=Act.DEAD)
    await clock.until(lambda: bench.results)
    dead, back = bench.broker.settled
    assert (dead.act, back.act) == (Act.DEAD, Act.RETRY)  # there are no headers to leave out
    assert back.delay > 0
    await bench.close()


async def test_a_dead_letter_whose_lease_is_lost_is_not_given_back(clock: HandClock) -> None:
    bench = Bench(clock)
    bench.broker.on_settle = lambda s: LeaseLost("late")
    await turns()
    bench.add("a", act=Act.DEAD)
    await turns()
    assert bench.results == [("a", "LeaseLost")]
    await bench.close()


async def test_flush_of_nothing_returns(clock: HandClock) -> None:
    bench = Bench(clock)
    await bench.settler.flush()
    await bench.close()


@pytest.mark.parametrize("act", [Act.RETRY, Act.DEAD])
async def test_acknowledgements_go_on_while_copies_wait(clock: HandClock, act: Act) -> None:
    taken = asyncio.Event()

    class Full(ScriptedReceiver):
        """Its server takes nothing that is sent, until it does."""

        async def settle(self, batch: Sequence[Settlement]) -> Sequence[BusError | None]:
            if any(settlement.act is act for settlement in batch):
                await taken.wait()
            return await super().settle(batch)

    bench = Bench(clock, replace(PLAIN, settle_slots=3), Full)
    await turns()
    for number in range(5):  # more than there are slots
        bench.add(f"copy {number}", act=act)
        bench.add(f"ack {number}")
        await turns()
    assert [message_id for message_id, _ in bench.results] == [f"ack {number}" for number in range(5)]
    taken.set()
    await bench.settler.flush()
    assert len(bench.results) == 10
    await bench.close()


async def test_a_dead_letter_that_was_held_is_tried_again_soon(clock: HandClock) -> None:
    """The long wait is for a refusal; what is throttled afterwards waits as anything that is throttled."""
    bench = Bench(clock, replace(PLAIN, retry_delay=None))
    answers = [Refused("full"), Throttled("slow"), None]
    bench.broker.on_settle = lambda s: answers.pop(0)
    began = clock.now()
    await turns()
    bench.add("a", act=Act.DEAD)
    await clock.until(lambda: bench.results)
    assert 60.0 <= clock.now() - began < 70.0
    await bench.close()


async def test_dead_letters_that_a_full_queue_does_not_take_give_up_their_room(clock: HandClock) -> None:
    bench = Bench(clock)
    bench.broker.on_settle = lambda s: Throttled("the queue is full") if s.act is Act.DEAD else None
    await turns()
    bench.add(*"abcdefgh", act=Act.DEAD)
    await clock.until(lambda: len(bench.results) == 8)
    assert {result for _, result in bench.results} == {"NoneType"}
    assert [(s.act, s.delay >= 60) for s in bench.broker.settled[-8:]] == [(Act.RETRY, True)] * 8
    assert bench.policy.trouble == "DEAD was refused: Throttled: the queue is full"
    bench.add("i")
    await clock.until(lambda: len(bench.results) == 9)
    await clock.advance(120)
    assert bench.policy.trouble == ""
    await bench.close()


async def test_where_there_are_no_retries_they_stay_in_hand_and_block_no_copy(clock: HandClock) -> None:
    bench = Bench(clock, replace(PLAIN, retry_delay=None))
    full = True
    bench.broker.on_settle = lambda s: Throttled("full") if full and s.delivery.headers["ce-id"] == "a" else None
    await turns()
    bench.add("a", act=Act.DEAD)
    await clock.advance(30)
    bench.add("b", act=Act.DEAD)
    await clock.until(lambda: ("b", "NoneType") in bench.results)
    full = False
    await clock.until(lambda: ("a", "NoneType") in bench.results)
    await bench.close()


@pytest.mark.parametrize(("act", "error"), [(Act.RELEASE, Throttled("slow")), (Act.DEAD, Refused("no"))])
async def test_what_is_lost_while_its_settlement_waits_is_not_settled_again(
    clock: HandClock, act: Act, error: BusError
) -> None:
    bench = Bench(clock, replace(PLAIN, retry_delay=None))
    bench.broker.on_settle = lambda s: error
    await turns()
    bench.add("a", act=act)
    await turns()
    tried = len(bench.broker.settle_calls)
    bench.lost.add("a")
    await clock.advance(200)
    assert len(bench.broker.settle_calls) == tried
    assert bench.results == []
    await bench.settler.flush()
    await bench.close()


async def test_what_lost_its_lease_before_it_was_settled_is_not_settled(clock: HandClock) -> None:
    """And keeps nobody waiting for the rest."""
    bench = Bench(clock, replace(PLAIN, settle_linger=1000.0))
    await turns()
    gone, kept = (Settlement(delivery(SOURCE, each), Act.ACK) for each in ("gone", "kept"))
    bench.settler.add(gone)
    bench.settler.add(kept)
    bench.settler.drop(gone.delivery)
    await bench.settler.flush()
    assert [settlement.delivery for settlement in bench.broker.settled] == [kept.delivery]
    bench.settler.hurry = False
    bench.settler.add(gone)
    flush = asyncio.create_task(bench.settler.flush())
    bench.settler.drop(gone.delivery)
    async with asyncio.timeout(30):
        await flush
    assert len(bench.broker.settled) == 1
    await bench.close()
