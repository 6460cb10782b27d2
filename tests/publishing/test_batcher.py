"""Send now or gather: limits, one result per entry in order, the key gate, back-pressure, cancellation."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.scripted import PLAIN, turns

from msgbus.broker import Capabilities, Result
from msgbus.errors import BusError, Disconnected, Refused
from msgbus.message import Address, Outgoing, Receipt
from msgbus.publishing.batcher import Batcher
from msgbus.publishing.chunks import wire_size

ADDRESS = Address("queue", "work")


def entry(message_id: object, size: int = 10, key: str | None = None) -> Outgoing:
    """An entry of `size` bytes as `wire_size` counts them."""
    return Outgoing(ADDRESS, str(message_id), b"x" * (size - len(key or "")), {}, key, lane=key)


@dataclass
class Wire:
    """Remembers batches; each call waits for its turn to answer."""

    capabilities: Capabilities = PLAIN
    calls: list[Sequence[Outgoing]] = field(default_factory=list)
    answers: list[asyncio.Event] = field(default_factory=list)
    out: Counter[str] = field(default_factory=Counter)
    most_out_of_a_key: int = 0
    most_calls: int = 0
    running: int = 0

    async def send(self, batch: Sequence[Outgoing]) -> Sequence[Result]:
        """One receipt per entry, when the test lets it."""
        self.calls.append(list(batch))
        answer = asyncio.Event()
        self.answers.append(answer)
        keys = [out.key for out in batch if out.key is not None]
        self.out.update(keys)
        self.running += 1
        self.most_calls = max(self.most_calls, self.running)
        self.most_out_of_a_key = max([self.most_out_of_a_key, *self.out.values()])
        try:
            await answer.wait()
        finally:
            self.running -= 1
            self.out.subtract(keys)
        return [Refused(out.id) if out.id.startswith("bad") else Receipt(out.id) for out in batch]

    def ids(self) -> list[list[str]]:
        """The ids of each call."""
        return [[out.id for out in call] for call in self.calls]

    async def answer_all(self, tasks: Sequence[asyncio.Task[Sequence[Result]]]) -> None:
        """Until every task is done."""
        await turns(5)
        while any(not task.done() for task in tasks):
            for answer in self.answers:
                answer.set()
            await turns(5)


def start(batcher: Batcher, *entries: Outgoing) -> asyncio.Task[Sequence[Result]]:
    """A task that sends these."""

    async def send() -> Sequence[Result]:
        return await batcher.send(entries)

    return asyncio.create_task(send())


def ids_of(results: Sequence[Result]) -> list[str]:
    """What each result is about."""
    return [result.id if isinstance(result, Receipt) else str(result) for result in results]


async def test_an_idle_slot_sends_at_once_and_a_busy_one_gathers() -> None:
    wire = Wire()
    batcher = Batcher(wire.send, replace(PLAIN, send_slots=1, send_batch=10))
    tasks = [start(batcher, entry(0))]
    await turns(2)
    tasks += [start(batcher, entry(i)) for i in range(1, 6)]
    await turns(3)
    assert wire.ids() == [["0"]]
    wire.answers[0].set()
    await turns(5)
    assert wire.ids() == [["0"], ["1", "2", "3", "4", "5"]]
    await wire.answer_all(tasks)
    assert [ids_of(task.result()) for task in tasks] == [[str(i)] for i in range(6)]


async def test_each_caller_gets_the_results_of_its_own_entries() -> None:
    wire = Wire()
    batcher = Batcher(wire.send, replace(PLAIN, send_slots=1, send_batch=10))
    tasks = [start(batcher, entry("first"))]
    await turns(2)
    tasks += [start(batcher, entry("1"), entry("bad 2")), start(batcher, entry("3")), start(batcher, entry("bad 4"))]
    await wire.answer_all(tasks)
    assert [ids_of(task.result()) for task in tasks] == [["first"], ["1", "bad 2"], ["3"], ["bad 4"]]
    assert isinstance(tasks[3].result()[0], Refused)


async def test_a_cancelled_caller_s_entries_are_dropped_while_they_wait() -> None:
    wire = Wire()
    batcher = Batcher(wire.send, replace(PLAIN, send_slots=1, send_batch=10))
    tasks = [start(batcher, entry(i)) for i in range(4)]
    await turns(3)
    tasks[2].cancel()
    await wire.answer_all(tasks)
    assert wire.ids() == [["0"], ["1", "3"]]
    assert [task.cancelled() for task in tasks] == [False, False, True, False]
    assert ids_of(tasks[3].result()) == ["3"]


async def test_one_cancelled_caller_among_many_in_a_batch_that_is_out_harms_nobody_else() -> None:
    wire = Wire()
    batcher = Batcher(wire.send, replace(PLAIN, send_slots=1, send_batch=10))
    tasks = [start(batcher, entry(i)) for i in range(4)]
    await turns(3)
    wire.answers[0].set()
    await turns(5)
    assert wire.ids() == [["0"], ["1", "2", "3"]]
    tasks[2].cancel()
    await wire.answer_all(tasks)
    assert [task.cancelled() for task in tasks] == [False, False, True, False]
    assert [ids_of(task.result()) for task in (tasks[1], tasks[3])] == [["1"], ["3"]]


async def test_an_error_of_the_whole_call_is_the_result_of_each_entry() -> None:
    async def send(batch: Sequence[Outgoing]) -> Sequence[Result]:
        await turns(2)
        raise Disconnected("gone")

    batcher = Batcher(send, replace(PLAIN, send_slots=1, send_batch=10))
    tasks = [start(batcher, entry(i)) for i in range(3)]
    await asyncio.wait(tasks)
    assert [type(task.result()[0]) for task in tasks] == [Disconnected] * 3


async def test_a_bug_in_the_broker_reaches_its_callers_and_the_next_send_works() -> None:
    bugs = [ZeroDivisionError("a bug"), ZeroDivisionError("a bug")]

    async def send(batch: Sequence[Outgoing]) -> Sequence[Result]:
        await turns(2)
        if bugs:
            raise bugs.pop()
        return [Receipt(out.id) for out in batch]

    batcher = Batcher(send, replace(PLAIN, send_slots=1, send_batch=10))
    tasks = [start(batcher, entry(i)) for i in range(3)]
    await asyncio.wait(tasks)
    results = [task.result()[0] for task in tasks]
    assert [type(result) for result in results] == [BusError] * 3
    assert {type(result.__cause__) for result in results if isinstance(result, BusError)} == {ZeroDivisionError}
    assert ids_of(await batcher.send([entry("after")])) == ["after"]


async def test_the_gate_lets_one_of_a_key_out_and_keeps_their_order() -> None:
    wire = Wire()
    batcher = Batcher(wire.send, replace(PLAIN, send_slots=4, send_batch=3, send_order="gated"))
    task = start(batcher, *(entry(f"{k}{i}", key=k) for i in range(3) for k in "ab"), entry("free"))
    await wire.answer_all([task])
    assert ids_of(task.result()) == ["a0", "b0", "a1", "b1", "a2", "b2", "free"]
    assert wire.most_out_of_a_key == 1
    flat = [message_id for call in wire.ids() for message_id in call]
    assert [message_id for message_id in flat if message_id[0] == "a"] == ["a0", "a1", "a2"]


async def test_a_key_that_is_only_a_hint_passes_the_gate_in_full_batches() -> None:
    wire = Wire()
    batcher = Batcher(wire.send, replace(PLAIN, send_slots=4, send_batch=3, send_order="gated"))
    hints = [entry(i, key="k") for i in range(3)]
    for out in hints:
        out.lane = None
    task = start(batcher, *hints)
    await wire.answer_all([task])
    assert wire.ids() == [["0", "1", "2"]]


async def test_a_cancelled_entry_does_not_close_the_gate_for_its_key() -> None:
    wire = Wire()
    batcher = Batcher(wire.send, replace(PLAIN, send_slots=2, send_order="gated"))
    tasks = [start(batcher, entry(i, key="k")) for i in range(4)]
    await turns(3)
    tasks[1].cancel()
    tasks[2].cancel()
    await wire.answer_all(tasks)
    assert wire.ids() == [["0"], ["3"]]


async def test_callers_wait_for_room_when_too_much_waits() -> None:
    wire = Wire()
    batcher = Batcher(wire.send, replace(PLAIN, send_slots=1, send_batch=2), capacity=4)
    tasks = [start(batcher, *(entry(f"{i}.{j}") for j in range(2))) for i in range(8)]
    await turns(5)
    tasks[5].cancel()
    await wire.answer_all(tasks)
    assert [task.cancelled() for task in tasks] == [i == 5 for i in range(8)]
    sent = [message_id for call in wire.ids() for message_id in call]
    assert sorted(sent) == sorted(f"{i}.{j}" for i in range(8) if i != 5 for j in range(2))


async def test_close_waits_for_what_was_taken() -> None:
    wire = Wire()
    batcher = Batcher(wire.send, replace(PLAIN, send_slots=1, send_batch=1))
    tasks = [start(batcher, entry(i)) for i in range(3)]
    await turns(3)
    closing = asyncio.create_task(batcher.close(5.0))
    await wire.answer_all(tasks)
    await closing
    assert wire.ids() == [["0"], ["1"], ["2"]]


async def test_close_gives_up_what_does_not_end_and_tells_its_callers() -> None:
    wire = Wire()
    batcher = Batcher(wire.send, replace(PLAIN, send_slots=1, send_batch=1))
    tasks = [start(batcher, entry(i)) for i in range(4)]
    await turns(3)
    tasks[0].cancel()  # as its own deadline does
    await turns(3)
    await batcher.close(0.01)
    await turns()
    assert all(task.done() for task in tasks)
    assert len(wire.calls) <= 2, "nothing more is begun"


@st.composite
def loads(draw: st.DrawFn) -> tuple[Capabilities, int, list[list[tuple[int, str | None]]], int]:
    """Capabilities, a capacity, the calls of many tasks, and a seed for what is cancelled and answered when."""
    capabilities = replace(
        PLAIN,
        send_batch=draw(st.integers(1, 5)),
        send_slots=draw(st.integers(1, 3)),
        send_bytes=draw(st.none() | st.integers(20, 60)),
        send_order=draw(st.sampled_from(["none", "connection", "gated"])),
    )
    an_entry = st.tuples(st.integers(2, 40), st.sampled_from([None, "a", "b"]))
    calls = draw(st.lists(st.lists(an_entry, min_size=1, max_size=8), min_size=1, max_size=12))
    return capabilities, draw(st.integers(1, 20)), calls, draw(st.integers(0, 2**32))


@settings(max_examples=150, deadline=None)
@given(loads())
def test_limits_order_and_completeness_under_random_cancellation(
    load: tuple[Capabilities, int, list[list[tuple[int, str | None]]], int],
) -> None:
    asyncio.run(_run_load(*load))


async def _run_load(
    capabilities: Capabilities, capacity: int, calls: list[list[tuple[int, str | None]]], seed: int
) -> None:
    chance = random.Random(seed)
    wire = Wire()
    batcher = Batcher(wire.send, capabilities, capacity)
    tasks = []
    for i, call in enumerate(calls):
        tasks.append(start(batcher, *(entry(f"{i}.{j}", size, key) for j, (size, key) in enumerate(call))))
        await turns(chance.randrange(3))
        if chance.random() < 0.25:
            chance.choice(tasks).cancel()
        if wire.answers and chance.random() < 0.5:
            chance.choice(wire.answers).set()
    await wire.answer_all(tasks)
    await batcher.close(1.0)

    check_limits(wire, capabilities)
    sent = Counter(out.id for batch in wire.calls for out in batch)
    assert set(sent.values()) <= {1}
    for i, (call, task) in enumerate(zip(calls, tasks, strict=True)):
        if not task.cancelled():
            wanted = [f"{i}.{j}" for j in range(len(call))]
            assert ids_of(task.result()) == wanted
            assert all(sent[message_id] == 1 for message_id in wanted)


def check_limits(wire: Wire, capabilities: Capabilities) -> None:
    """What the broker said of itself was kept."""
    for batch in wire.calls:
        assert len(batch) <= capabilities.send_batch
        if capabilities.send_bytes is not None:
            assert len(batch) == 1 or sum(map(wire_size, batch)) <= capabilities.send_bytes
    assert wire.most_calls <= capabilities.send_slots
    if capabilities.send_order == "gated":
        assert wire.most_out_of_a_key <= 1
