"""Polls: how many are in flight, and for how many messages each asks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest
from tests.scripted import turns

from msgbus.brokers.aws import AwsClient
from msgbus.brokers.mailbox import Mailbox
from msgbus.brokers.sqs.polls import PollOptions, Polls
from msgbus.clock import SystemClock
from msgbus.message import Delivery, Source

SOURCE = Source("queue", "work")


class Service:
    """Answers polls when the test says so, and notes what each asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.waiting: list[asyncio.Future[int]] = []

    async def call(self, service: str, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        assert (service, operation) == ("sqs", "ReceiveMessage")
        self.asked.append(params["MaxNumberOfMessages"])
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.waiting.append(answer)
        return {"Messages": [{}] * await answer}

    async def answer(self, count: int) -> None:
        """The poll that waits longest brings `count` messages."""
        self.waiting.pop(0).set_result(count)
        await turns()


def accept(messages: Sequence[Mapping[str, Any]]) -> Sequence[Delivery]:
    return [Delivery(b"", SOURCE, {}) for _ in messages]


class Opened:
    """Polls of a queue, at most four at a time, and their mailbox."""

    def __init__(self) -> None:
        self.service = Service()
        self.mailbox: Mailbox[Delivery] = Mailbox(SystemClock())
        client = cast(AwsClient, self.service)
        self.polls = Polls(client, "http://queue", PollOptions(1, 4, 30), self.mailbox, accept)

    async def ask(self, wanted: int) -> None:
        self.polls.ask(wanted)
        await turns()

    async def end(self) -> None:
        self.polls.ask(0)
        while self.service.waiting:
            await self.service.answer(0)
        await self.polls.all_back()


@pytest.mark.parametrize(("wanted", "asked"), [(1, [1]), (9, [9]), (10, [10]), (64, [10]), (0, [])])
async def test_one_poll_waits_while_nothing_comes(wanted: int, asked: list[int]) -> None:
    opened = Opened()
    await opened.ask(wanted)
    assert opened.service.asked == asked
    await opened.end()


async def test_polls_double_while_messages_come() -> None:
    opened = Opened()
    await opened.ask(100)
    await opened.service.answer(10)
    await opened.ask(100)
    assert len(opened.service.waiting) == 2
    await opened.service.answer(10)
    await opened.ask(100)
    assert len(opened.service.waiting) == 4
    await opened.end()


async def test_a_poll_for_fewer_than_ten_waits_until_no_other_is_under_way() -> None:
    opened = Opened()
    await opened.ask(100)
    await opened.service.answer(10)
    opened.polls.ask(0)
    await opened.service.answer(10)
    opened.mailbox.items.clear()
    opened.service.asked.clear()
    await opened.ask(14)
    assert opened.service.asked == [10], "never four beside it, though two may be in flight"
    await opened.service.answer(10)
    assert opened.service.asked == [10, 4], "the mailbox has ten: room for four, and nothing is under way"
    await opened.end()


async def test_each_empty_poll_takes_one_away() -> None:
    opened = Opened()
    await opened.ask(100)
    for _ in range(2):
        await opened.service.answer(1)
        await opened.ask(100)
    assert len(opened.service.waiting) == 4
    for left in (3, 2, 1, 1):
        await opened.service.answer(0)
        await opened.ask(100)
        assert len(opened.service.waiting) == left
    await opened.end()
