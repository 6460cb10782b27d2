"""Long polls of one queue: as many in flight as there is load for, and none is ever cancelled.

A cancelled poll hides the messages that it was about to return until their visibility ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgbus.brokers.aws import AwsClient, native_code
from msgbus.brokers.aws.codes import MISSING
from msgbus.brokers.mailbox import Mailbox
from msgbus.errors import BusError, ReceiverClosed, shown
from msgbus.message import Delivery

log = logging.getLogger("msgbus.sqs")

MESSAGES = 10
"""Most messages of one poll."""

_ASKED = ("ApproximateReceiveCount", "ApproximateFirstReceiveTimestamp", "SentTimestamp", "MessageGroupId")

Accept = Callable[[Sequence[Mapping[str, Any]]], Sequence[Delivery]]


@dataclass(frozen=True, slots=True)
class PollOptions:
    """`wait`: seconds of one poll. `most`: polls in flight. `lease`: the visibility to ask for, which holds
    whatever the queue's own timeout is made to be meanwhile.
    """

    wait: int
    most: int
    lease: int


class Polls:
    """Fills a mailbox on demand.

    Idle, one poll waits. Each poll that brings something doubles how many may be in flight, each that brings
    nothing takes one away. A poll is started only for messages that somebody has room for, and for fewer than ten
    only if no other is under way: a call costs the same for one message as for ten.
    """

    def __init__(
        self, client: AwsClient, url: str, options: PollOptions, mailbox: Mailbox[Delivery], accept: Accept
    ) -> None:
        self.asked = 0  # messages that polls under way may bring
        self.under_way: set[asyncio.Task[None]] = set()
        self._client = client
        self._url = url
        self._options = options
        self._mailbox = mailbox
        self._accept = accept
        self._allowed = 1
        self._wanted = 0
        self._failing = False
        self._loop = asyncio.get_running_loop()
        self._params: dict[str, Any] = {
            "QueueUrl": url,
            "WaitTimeSeconds": options.wait,
            "MessageSystemAttributeNames": _ASKED,
            "MessageAttributeNames": ("All",),
            "VisibilityTimeout": options.lease,
        }

    def ask(self, wanted: int) -> None:
        """Have polls under way for `wanted` messages, as far as the load allows more of them; 0: nobody waits."""
        self._wanted = wanted
        while len(self.under_way) < self._allowed and (count := self._missing(len(self.under_way))) > 0:
            self.asked += count
            task = self._loop.create_task(self._run(count))
            self.under_way.add(task)

    def _missing(self, others: int) -> int:
        """How many messages the next poll should bring, beside `others` under way; 0 for none."""
        count = self._wanted - self.asked - len(self._mailbox)
        return MESSAGES if count >= MESSAGES else 0 if others else max(0, count)

    async def all_back(self) -> None:
        """Until no poll is under way."""
        while self.under_way:
            await asyncio.wait(self.under_way)

    async def one_back(self) -> None:
        """Until a poll has come back, if any is under way."""
        if self.under_way:
            await asyncio.wait(self.under_way, return_when=asyncio.FIRST_COMPLETED)

    async def _run(self, count: int) -> None:
        """Poll after poll, for as long as somebody waits."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker
        try:
            while count > 0:
                try:
                    went_well = await self._poll(count)
                finally:
                    self.asked -= count
                others = len(self.under_way) - 1
                count = self._missing(others) if went_well and others < self._allowed else 0
                self.asked += count
        finally:
            self.under_way.discard(task)  # not in a callback: who asks meanwhile must not take it for a poll

    async def _poll(self, count: int) -> bool:
        try:
            answer = await self._client.call("sqs", "ReceiveMessage", {**self._params, "MaxNumberOfMessages": count})
            messages = answer.get("Messages")
            deliveries = self._accept(messages) if messages else ()
        except BusError as error:
            self._failed(error)
            return False
        except Exception as error:  # an answer that is none, or a bug: another receiver, not silence
            self._failed(_broken(self._url, error))
            return False
        self._failing = False
        if deliveries:
            self._allowed = min(2 * self._allowed, self._options.most)
            self._mailbox.put(deliveries)
        else:
            self._allowed = max(1, self._allowed - 1)
        return True

    def _failed(self, error: BusError) -> None:
        """Told to the core, which waits and asks again; said in the log once, until a poll succeeds."""
        self._allowed = 1
        if not self._failing:
            log.warning("receiving fails: %s", error)
        self._failing = True
        if native_code(error) in MISSING:
            gone = ReceiverClosed(f"{self._url}: the queue is gone")
            gone.__cause__ = error.__cause__
            error = gone
        self._mailbox.fail(error)


def _broken(url: str, error: Exception) -> ReceiverClosed:
    closed = ReceiverClosed(f"{url}: what was received can't be handed in: {shown(error)}")
    closed.__cause__ = error
    return closed
