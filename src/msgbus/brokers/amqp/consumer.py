"""One consumer on a channel of its own, so that `multiple` acknowledges nobody else's messages."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from operator import attrgetter

from msgbus.brokers.amqp.copies import Copies
from msgbus.brokers.amqp.names import DUE
from msgbus.brokers.amqp.wire import Arrived, Channel
from msgbus.brokers.mailbox import Mailbox
from msgbus.errors import BusError, Refused, said
from msgbus.message import Source

log = logging.getLogger("msgbus.amqp")

_AGAIN = 1.0  # seconds until a message that came too early is sent on again, where that failed
_LAST = 1.0  # seconds that sending on may take when the receiver is closed


class AckWindow:
    """Which tags of a channel are settled, and the fewest acknowledgements that say so.

    `done`: settled, the server does not know yet. `told`: it was told of singly.

    The prefix of settled tags goes out as one `multiple`; what is settled beyond the first unsettled one goes out
    singly, is remembered and skipped when the prefix reaches it. A tag is never acknowledged twice, and a `multiple`
    never names one that was acknowledged singly: the server closes the channel for both (406).
    """

    def __init__(self) -> None:
        self._low = 1  # all below it are settled, and the server knows
        self.done: set[int] = set()
        self.told: set[int] = set()  # at or above `_low`

    def flush(self) -> list[tuple[int, bool]]:
        """What to acknowledge now: (tag, multiple)."""
        done, told = self.done, self.told
        at, last, count = self._low, 0, 0
        while True:
            if at in done:
                done.remove(at)
                last, count = at, count + 1
            elif at in told:
                told.remove(at)
            else:
                break
            at += 1
        self._low = at
        acks = [(last, count > 1)] if count else []
        if done:
            acks += [(tag, False) for tag in sorted(done)]
            told |= done
            done.clear()
        return acks


class Consumer:
    """See mq.receiver.Subscription. `tag` is the server's name of it."""

    # Asked once a message: no frame of Python.
    closed: BusError | None = property(attrgetter("_channel.closed"))  # type: ignore[assignment]

    def __init__(self, source: Source, mailbox: Mailbox[Arrived], channel: Channel, tag: str, copies: Copies) -> None:
        self._source = source
        self._mailbox = mailbox
        self._channel = channel
        self._tag = tag
        self._copies = copies
        self._window = AckWindow()
        self._sending_on: set[asyncio.Task[None]] = set()

    def read(self, batch: Sequence[Arrived]) -> Sequence[Arrived]:
        """All but what came before its time: that is sent on."""
        for arrived in batch:
            if DUE in arrived.headers:
                return self._without_early(batch)
        return batch

    def _without_early(self, batch: Sequence[Arrived]) -> Sequence[Arrived]:
        early = [arrived for arrived in batch if DUE in arrived.headers and self._copies.is_early(arrived)]
        if not early:
            return batch
        task = asyncio.ensure_future(self._send_on(early))
        self._sending_on.add(task)
        task.add_done_callback(self._sending_on.discard)
        return [arrived for arrived in batch if DUE not in arrived.headers]

    async def _send_on(self, early: Sequence[Arrived]) -> None:
        """What came before its time waits again, and is acknowledged when its copy is confirmed."""
        while early and self._channel.closed is None:
            outcomes = list(zip(early, await self._copies.send_on(self._source, early), strict=True))
            self.acknowledge([arrived for arrived, outcome in outcomes if outcome is None])
            for arrived, outcome in outcomes:
                if isinstance(outcome, Refused):
                    self._hand_out(arrived, outcome)
            early = [each for each, outcome in outcomes if not (outcome is None or isinstance(outcome, Refused))]
            if early:
                await self._copies.sleep(_AGAIN)

    def _hand_out(self, early: Arrived, error: Refused) -> None:
        """Before its time, rather than never: it would take room in hand for ever."""
        log.warning("%s: a message comes before its time: %s", self._source, said(error), extra={"error": said(error)})
        del early.headers[DUE]
        self._mailbox.put([early])

    def acknowledge(self, messages: Sequence[Arrived]) -> None:
        """As few frames as the window needs."""
        done = self._window.done
        for arrived in messages:
            done.add(arrived.tag)
        acks = self._window.flush()
        if acks:
            self._channel.ack(acks)

    def give_back(self, messages: Sequence[Arrived]) -> None:
        """Basic.Nack with requeue for each."""
        tags = [arrived.tag for arrived in messages]
        self._channel.requeue(tags)
        self._window.told.update(tags)

    async def cancel(self) -> bool:
        """What is in hand stays."""
        if self._channel.closed is None:
            await self._channel.cancel(self._tag)
        return True

    async def close(self) -> None:
        """Let acknowledgements go out, then the channel."""
        if self._sending_on:
            await asyncio.wait(self._sending_on, timeout=_LAST)
            for task in self._sending_on:
                task.cancel()
        await self._channel.close()

    def abandon(self) -> None:
        """The same without waiting."""
        self._channel.abandon()
