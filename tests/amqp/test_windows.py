"""Acknowledgements and confirms in any order: against a server that closes the channel for every mistake."""

from __future__ import annotations

import asyncio
from functools import partial

from hypothesis import given
from hypothesis import strategies as st
from tests.amqp.streams import CALM

from msgbus.brokers.amqp.confirms import Confirms
from msgbus.brokers.amqp.consumer import AckWindow
from msgbus.brokers.amqp.wire import Publication, Unrouted
from msgbus.brokers.mq.outcomes import Outcomes
from msgbus.errors import BusError, Disconnected, Throttled


class Server:
    """What RabbitMQ does with settlements of the tags 1 to `count`."""

    def __init__(self, count: int) -> None:
        self.out = set(range(1, count + 1))
        self.told = 0  # frames

    def ack(self, acks: list[tuple[int, bool]]) -> None:
        for tag, multiple in acks:
            assert tag in self.out, f"{tag} is not there: 406, the channel is closed"
            self.out -= {each for each in self.out if each <= tag} if multiple else {tag}
            self.told += 1

    def requeue(self, tag: int) -> None:
        assert tag in self.out
        self.out.discard(tag)


@given(st.data(), st.integers(1, 40))
@CALM
def test_every_tag_is_acknowledged_once_and_none_that_is_not_settled(data: st.DataObject, count: int) -> None:
    server, window, settled = Server(count), AckWindow(), set[int]()
    for tag in data.draw(st.permutations(range(1, count + 1))):
        if data.draw(st.integers(0, 9)) == 0:
            server.requeue(tag)
            window.told.add(tag)
        else:
            window.done.add(tag)
        settled.add(tag)
        if data.draw(st.booleans()):
            server.ack(window.flush())
            assert server.out.isdisjoint(settled)
            assert server.out == set(range(1, count + 1)) - settled
    server.ack(window.flush())
    assert server.out == set()
    assert window.flush() == []


@given(st.lists(st.integers(1, 50), max_size=8))
@CALM
def test_in_order_one_frame_is_enough_for_all(sizes: list[int]) -> None:
    server, window, tag = Server(sum(sizes)), AckWindow(), 0
    for size in sizes:
        window.done.update(range(tag + 1, tag + size + 1))
        server.ack(window.flush())
        tag += size
    assert server.out == set()
    assert server.told == len(sizes)


def test_a_slow_handler_holds_nobody_up() -> None:
    server, window = Server(1000), AckWindow()
    for tag in range(2, 1001):
        window.done.add(tag)
        server.ack(window.flush())
    assert server.out == {1}
    window.done.add(1)
    server.ack(window.flush())
    assert server.out == set()


# -- confirms


def publication(number: int, *, mandatory: bool = True) -> Publication:
    """One of a kind."""
    return Publication("e", "k", {"ce-id": str(number)}, b"", 0, mandatory=mandatory)


def entered(confirms: Confirms, sizes: list[int]) -> list[Outcomes[Publication]]:
    """Batches whose publications all went out."""
    loop = asyncio.get_running_loop()
    batches = [Outcomes([publication(n) for n in range(size)], loop) for size in sizes]
    for batch in batches:
        for place in range(len(batch.sent)):
            confirms.add(batch, place)
    return batches


def outcomes(batches: list[Outcomes[Publication]]) -> list[BusError | None]:
    """Of all, in the order of publishing; each must have one."""
    assert all(batch.done.done() for batch in batches)
    return [outcome for batch in batches for outcome in batch.results]


@given(st.data(), st.lists(st.integers(1, 10), min_size=1, max_size=6))
@CALM
def test_each_publication_gets_its_own_confirm(data: st.DataObject, sizes: list[int]) -> None:
    """Singly or with others, in any order, as a server with several queues confirms."""

    async def run() -> None:
        confirms, count = Confirms(), sum(sizes)
        batches = entered(confirms, sizes)
        pending, expected = set(range(1, count + 1)), dict[int, bool]()
        while pending:
            multiple, ok = data.draw(st.booleans()), data.draw(st.booleans())
            tag = data.draw(st.sampled_from(sorted(pending)))
            covered = {each for each in pending if each <= tag} if multiple else {tag}
            expected |= dict.fromkeys(covered, ok)
            pending -= covered
            confirms.confirm(tag, multiple=multiple, ok=ok)
        got = outcomes(batches)
        assert [outcome is None for outcome in got] == [expected[tag] for tag in range(1, count + 1)]
        assert all(outcome is None or isinstance(outcome, Throttled) for outcome in got)
        assert confirms.pending == {}

    asyncio.run(run())


def _is(sent: str, each: Publication) -> bool:
    return each.headers["ce-id"] == sent


@given(st.sets(st.integers(0, 19)))
@CALM
def test_what_came_back_is_unrouted_and_nothing_else(back: set[int]) -> None:
    async def run() -> None:
        confirms = Confirms()
        (batch,) = entered(confirms, [20])
        for number in sorted(back):  # the server returns in the order of publishing, before it confirms
            confirms.returned("e", "k", partial(_is, str(number)))
        confirms.confirm(20, multiple=True, ok=True)
        assert {n for n, outcome in enumerate(batch.results) if isinstance(outcome, Unrouted)} == back

    asyncio.run(run())


async def test_a_dead_channel_fails_what_is_not_confirmed_and_that_alone() -> None:
    confirms = Confirms()
    batches = entered(confirms, [3, 2])
    confirms.confirm(2, multiple=False, ok=True)
    confirms.confirm(4, multiple=False, ok=True)
    error: BusError = Disconnected("gone")
    confirms.fail(lambda _: error)
    assert outcomes(batches) == [error, None, error, None, error]
    confirms.confirm(5, multiple=True, ok=True)  # a confirm that was under way changes nothing
    assert outcomes(batches) == [error, None, error, None, error]
