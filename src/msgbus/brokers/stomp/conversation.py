"""One connection above its line: receipts, subscriptions, transactions, and the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from msgbus.brokers.mailbox import Mailbox
from msgbus.brokers.mq.errors import ServerSaid, caused, in_doubt, said
from msgbus.brokers.mq.outcomes import Outcomes
from msgbus.brokers.mq.target import PATIENCE
from msgbus.brokers.stomp.codec import Frame
from msgbus.brokers.stomp.errors import refusal
from msgbus.brokers.stomp.properties import Arrived
from msgbus.brokers.stomp.receipts import Receipts
from msgbus.brokers.stomp.wire import Line
from msgbus.errors import BusError, Disconnected, ReceiverClosed, Refused, Unavailable

log = logging.getLogger("msgbus.stomp")

_TOGETHER = 4 * 1024 * 1024  # bytes of one transaction
_GOODBYE = 2.0  # seconds that the end of a connection may take
_ACK_PARTS = {"1.2": ("id", ""), "1.1": ("message-id", "subscription"), "1.0": ("message-id", "subscription")}


class Conversation:
    """Speaks STOMP over a line. See mq.receiver.Subscription: a receiver has a connection of its own.

    `fatal_errors`: the server closes the connection for every ERROR, and leaves unsaid whose it was.
    """

    def __init__(self, line: Line) -> None:
        self.closed: BusError | None = Disconnected("not connected")
        self.connected: Mapping[str, str] = {}
        self.fatal_errors = False
        self._line = line
        self._loop = asyncio.get_running_loop()
        self._receipts = Receipts()
        self._mailboxes: dict[str, Mailbox[Frame]] = {}
        self._transactions = 0
        self._together = True
        self._leaving: asyncio.Task[None] | None = None
        self._ack, self._ack_of = _ACK_PARTS["1.2"]

    async def open(self) -> None:
        """Connect once; see wire.Line."""
        self.connected = await self._line.open(self)
        self._ack, self._ack_of = _ACK_PARTS.get(self.connected.get("version", "1.0"), _ACK_PARTS["1.0"])
        self.fatal_errors = "RabbitMQ" in self.connected.get("server", "")
        self.closed = None

    @property
    def blocked(self) -> str:
        """Why publishers must wait: the socket is full."""
        return "it does not take what is written" if self.closed is None and self._line.held else ""

    # -- publishing

    async def publish(self, batch: Sequence[Frame], *, together: bool) -> Sequence[BusError | None]:
        """Send and wait for all receipts; None for each that is confirmed.

        `together`: in transactions with one receipt each, where the server stores what it has committed. Raises
        Disconnected. Cancelled, the outcome is unknown.
        """
        if self.closed is not None:
            raise Disconnected(f"not sent: {self.closed}") from self.closed
        if together and self._together and len(batch) > 1:
            return await self._one_by_one(batch, await self._send_together(batch))
        outcomes = Outcomes(batch, self._loop)
        await self._send_each(batch, outcomes)
        if outcomes.left:
            await outcomes.done
        return outcomes.results

    async def _one_by_one(self, batch: Sequence[Frame], results: list[BusError | None]) -> Sequence[BusError | None]:
        """A transaction that was refused has sent nothing: each message again, to learn which is at fault."""
        if any(isinstance(result, Unavailable) and said(result) is None for result in results):
            self._together = False  # it was stored but for one: the next time the server shall say which
        refused = [place for place, result in enumerate(results) if result is not None and said(result) is not None]
        if refused and self.closed is None:
            again = await self.publish([batch[place] for place in refused], together=False)
            for place, result in zip(refused, again, strict=True):
                results[place] = result
        return results

    async def _send_each(self, batch: Sequence[Frame], outcomes: Outcomes[Frame]) -> None:
        line, expect = self._line, self._receipts.expect
        for place, frame in enumerate(batch):
            if line.held:
                await line.writable()
                if self.closed is not None:  # it died while this waited
                    for left in range(place, len(batch)):
                        outcomes.settle(left, Disconnected(f"not sent: {self.closed}"))
                    return
            receipt = expect(outcomes, place)
            try:
                line.write(line.encode(frame, "receipt", receipt))
            except ValueError as error:
                self._receipts.came(receipt, Refused(f"it does not fit into STOMP: {error}"))

    async def _send_together(self, batch: Sequence[Frame]) -> list[BusError | None]:
        """Transactions of a few megabytes. Each is written at once, so that nothing else comes in between."""
        results: list[BusError | None] = [None] * len(batch)
        sent: list[tuple[Outcomes[Frame], Sequence[int]]] = []
        start = 0
        while start < len(batch):
            if self._line.held:
                await self._line.writable()
                if self.closed is not None:
                    results[start:] = [Disconnected(f"not sent: {self.closed}")] * (len(batch) - start)
                    break
            outcomes, places, start = self._send_transaction(batch, start, results)
            sent.append((outcomes, places))
        for outcomes, places in sent:
            await outcomes.done
            for place in places:
                results[place] = outcomes.results[0]
        return results

    def _send_transaction(
        self, batch: Sequence[Frame], start: int, results: list[BusError | None]
    ) -> tuple[Outcomes[Frame], Sequence[int], int]:
        """What its receipt says, of which entries, and where the next one begins."""
        self._transactions += 1
        name, encode = str(self._transactions), self._line.encode
        parts, places, size = [encode(Frame("BEGIN", {"transaction": name}))], [], 0
        place = start
        for place in range(start, len(batch)):
            try:
                data = encode(batch[place], "transaction", name)
            except ValueError as error:
                results[place] = Refused(f"it does not fit into STOMP: {error}")
                continue
            parts.append(data)
            places.append(place)
            size += len(data)
            if size > _TOGETHER:
                break
        commit = Frame("COMMIT", {"transaction": name})
        outcomes = Outcomes((commit,), self._loop)
        parts.append(encode(commit, "receipt", self._receipts.expect(outcomes)))
        self._line.write(b"".join(parts))
        return outcomes, places, place + 1

    # -- consuming

    async def subscribe(
        self, subscription: str, headers: Mapping[str, str], mailbox: Mailbox[Frame] | None, *, confirmed: bool = True
    ) -> None:
        """Have the messages of a subscription put into `mailbox`; the end of the connection ends it. None: no use."""
        if mailbox is not None:
            self._mailboxes[subscription] = mailbox
        frame = Frame("SUBSCRIBE", {"id": subscription, **headers})
        if confirmed:
            await self.call(frame)
        else:
            self.tell(frame)

    async def unsubscribe(self, subscription: str) -> None:
        """No new messages."""
        await self.call(Frame("UNSUBSCRIBE", {"id": subscription}))
        self._mailboxes.pop(subscription, None)

    def acknowledge(self, messages: Sequence[Arrived]) -> None:
        """ACK each. Never waits."""
        self._settle("ACK", messages)

    def give_back(self, messages: Sequence[Arrived]) -> None:
        """NACK each. Never waits."""
        self._settle("NACK", messages)

    async def cancel(self) -> bool:
        """RabbitMQ keeps what is unsettled until the connection ends, ActiveMQ gives back at once what is in hand."""
        return False

    def _settle(self, command: str, messages: Sequence[Arrived]) -> None:
        if self.closed is not None:
            return
        line, ack, of = self._line, self._ack, self._ack_of
        if not of:
            line.write(line.encode_ids(command, [message.native["ack"] for message in messages]))
            return
        parts = [{ack: native["message-id"], of: native["subscription"]} for native in (m.native for m in messages)]
        line.write(b"".join([line.encode(Frame(command, headers)) for headers in parts]))

    def tell(self, frame: Frame) -> None:
        """Send a frame that nobody confirms. Never waits."""
        if self.closed is None:
            self._line.write(self._line.encode(frame))

    async def call(self, frame: Frame) -> None:
        """Send a frame and wait for its receipt. Raises what the server says against it, or the connection's end."""
        if self.closed is not None:
            raise self.closed
        outcomes = Outcomes((frame,), self._loop)
        self._line.write(self._line.encode(frame, "receipt", self._receipts.expect(outcomes)))
        try:
            async with asyncio.timeout(PATIENCE):
                await outcomes.done
        except TimeoutError as error:
            raise Unavailable(f"the server did not confirm {frame.command} in {PATIENCE:g} s") from error
        (result,) = outcomes.results
        if result is not None:
            raise result

    # -- the end

    def abandon(self) -> None:
        """Say goodbye without waiting: what was written before goes out, and all that is unsettled goes back."""
        if self._leaving is None:
            self._leaving = self._loop.create_task(self._leave())

    async def close(self) -> None:
        """Say goodbye and wait until the server has heard it; harmless when not connected."""
        self.abandon()
        if self._leaving is not None:
            await asyncio.wait([self._leaving])

    async def _leave(self) -> None:
        try:
            if self.closed is None:
                async with asyncio.timeout(_GOODBYE):
                    await self.call(Frame("DISCONNECT", {}))
        except (BusError, TimeoutError):
            pass  # it is gone already
        finally:
            self._end(ReceiverClosed("closed"))
            await self._line.end()

    # -- what the line tells

    def heard(self, frames: Sequence[Frame]) -> None:
        """Hand out what came."""
        mailboxes, last = self._mailboxes, None
        for frame in frames:
            if frame.command == "MESSAGE":
                mailbox = mailboxes.get(frame.headers.get("subscription", ""))
                if mailbox is None:
                    continue
                mailbox.items.append(frame)
                if mailbox is not last and last is not None:
                    last.wake()
                last = mailbox
            elif frame.command == "RECEIPT":
                self._receipts.came(frame.headers.get("receipt-id", ""))
            elif frame.command == "ERROR":
                self._error(frame)
        if last is not None:
            last.wake()

    def _error(self, frame: Frame) -> None:
        error = refusal(frame)
        if self.fatal_errors:
            self._end(error)
        elif self._receipts.came(frame.headers.get("receipt-id", ""), error):
            return
        elif not self._receipts.doubt(Unavailable(f"in a transaction, perhaps of another message: {error}")):
            log.warning("the server says: %s", error)

    def lost(self, error: BusError) -> None:
        """The connection is gone."""
        self._end(error)
        self.abandon()

    def _end(self, error: BusError) -> None:
        """The first reason stays."""
        if self.closed is not None:
            return
        told = said(error)
        lost = error if told is None else caused(Disconnected(f"the server closed the connection: {error}"), told)
        self.closed = lost
        self._receipts.fail(
            lambda frame: error if told is not None and _is_blamed(frame, told) else _doubt(frame, lost)
        )
        for mailbox in self._mailboxes.values():
            mailbox.end(lost)


def _doubt(frame: Frame, lost: BusError) -> BusError:
    return in_doubt(lost, "receipt") if frame.command in ("SEND", "COMMIT") else lost


def _is_blamed(frame: Frame, told: ServerSaid) -> bool:
    """Whether an ERROR without an address is of this frame: it names what the frame names, or the frame is a call."""
    if frame.command != "SEND":
        return True
    exchange = "amq.topic" if frame.headers["destination"].startswith("/topic/") else frame.headers["destination"]
    return any(f"'{part}'" in told.text for part in exchange.split("/") if part)
