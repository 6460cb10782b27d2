"""Request/reply: the requester's inbox and the responder's answer."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from msgbus import headers as h
from msgbus.clock import Clock, cancelled_within
from msgbus.consuming.chatter import SafeTracebacks
from msgbus.envelope.claim import BodyStore
from msgbus.envelope.opening import Open, opener
from msgbus.errors import BusError, DecodeError, Disconnected, Refused, Reject, RemoteError, said, shown
from msgbus.handlers.decoding import Decode
from msgbus.handlers.fetching import fetch
from msgbus.message import Act, Address, Delivery, Outgoing, Settlement, Source
from msgbus.options import SendOptions
from msgbus.publishing.link import Link
from msgbus.publishing.outlet import Outlet

log = logging.getLogger("msgbus.reply")
log.addFilter(SafeTracebacks())

_PREFETCH = 1000
_STEADY = 5.0  # seconds after which an inbox has proven that it works
_ERROR_CHARACTERS = 10_000  # of what a responder's error says
_CLOSE = 5.0  # seconds that an inbox may take to close
_SOURCE = Source("reply", "inbox")


class Inbox:
    """The replies of one broker: one receiver, a table of who waits for what.

    When the receiver dies all pending requests fail at once, since their replies may be lost. Late replies are
    dropped and counted in `late`.
    """

    def __init__(self, link: Link, clock: Clock) -> None:
        self.late = 0
        self._link = link
        self._clock = clock
        self._pending: dict[str, asyncio.Future[Delivery]] = {}
        self._address: asyncio.Future[str] | None = None
        self._task: asyncio.Task[None] | None = None
        self._afterwards: set[asyncio.Task[None]] = set()
        self._open: Open | None = opener(link.broker.capabilities())

    async def address(self) -> str:
        """Where replies go now; opens the inbox when first asked."""
        if self._task is None or self._task.done():
            self._renew_address()
            self._task = asyncio.create_task(self._run())
        waiting = self._renew_address(only_if_none=True)
        await asyncio.wait([waiting])  # not cancelled with one of those who wait
        if waiting.cancelled():
            raise Disconnected("the reply inbox is closed")
        return waiting.result()

    def _renew_address(self, *, only_if_none: bool = False) -> asyncio.Future[str]:
        """A future for the address to come; one that somebody may be waiting for is kept."""
        if self._address is None or (self._address.done() and not only_if_none):
            self._address = asyncio.get_running_loop().create_future()
        return self._address

    def expect(self, correlation: str) -> asyncio.Future[Delivery]:
        """The reply to come; `forget` it in the end."""
        reply: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
        self._pending[correlation] = reply
        return reply

    def forget(self, correlation: str) -> None:
        """Nobody waits for it any more."""
        self._pending.pop(correlation, None)

    def afterwards(self, work: Coroutine[Any, Any, None]) -> None:
        """Something to do for a reply once its requester has it; closing waits for it, for a while."""
        task = asyncio.create_task(_quietly(work))
        self._afterwards.add(task)
        task.add_done_callback(self._afterwards.discard)

    async def close(self) -> None:
        """Fail what is pending."""
        if self._afterwards:
            await asyncio.wait(self._afterwards, timeout=_CLOSE)
        if self._task is not None:
            await cancelled_within(self._task, _CLOSE)
        if self._address is not None:
            self._address.cancel()
        self._fail(Disconnected("the bus is closed"))

    async def _run(self) -> None:
        failures = 0
        try:
            while True:
                began, generation = self._clock.now(), self._link.generation
                try:
                    await self._receive()
                except Exception as error:
                    self._lost(error)
                    if isinstance(error, Refused):
                        raise
                    failures = failures + 1 if self._clock.now() - began < _STEADY else 1
                    await self._link.ready_again(error, generation, failures)
        except BusError as error:
            self._end(error)
        except asyncio.CancelledError:
            self._end(Disconnected("the reply inbox is closed"))
            raise

    def _end(self, error: BusError) -> None:
        """The next request opens it again."""
        self._fail(error)
        if self._address is not None and not self._address.done():
            self._address.set_exception(error)
            self._address.exception()  # looked at: perhaps nobody waits for it

    async def _receive(self) -> None:
        can = self._link.broker.capabilities(_SOURCE)
        limit, most = min(_PREFETCH, can.receive_batch), can.settle_batch
        async with self._link.broker.receiver(_SOURCE, prefetch=_PREFETCH) as receiver:
            self._renew_address().set_result(receiver.address)
            while True:
                batch = await receiver.receive(limit, 20.0)
                self._hand_out(batch)
                for start in range(0, len(batch), most):
                    await receiver.settle([Settlement(delivery, Act.ACK) for delivery in batch[start : start + most]])

    def _hand_out(self, batch: Sequence[Delivery]) -> None:
        for delivery in batch:
            try:
                if self._open is not None and delivery.fault is None:
                    self._open(delivery)
                reply = self._pending.get(delivery.headers.get(h.CORRELATION, ""))
            except Exception:
                log.warning("a reply with a damaged envelope was dropped", exc_info=True)
                continue
            if reply is None or reply.done():
                self.late += 1
            else:
                reply.set_result(delivery)

    def _lost(self, error: Exception) -> None:
        log.warning("%s: reply inbox lost: %s", self._link.name, shown(error))
        self._renew_address()
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        for reply in self._pending.values():
            if not reply.done():
                failure = Disconnected(f"the reply inbox was lost, the reply may be too: {said(error)}")
                failure.__cause__ = error
                reply.set_exception(failure)
        self._pending.clear()


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:
        log.exception("deleting the stored body of a reply failed")


class Call:
    """The requester's side of one Rpc."""

    def __init__(self, what: str, outlet: Outlet, inbox: Inbox, decode: Decode, store: BodyStore | None) -> None:
        self.what = what
        self.outlet = outlet
        self._inbox = inbox
        self._decode = decode
        self._store = store

    async def request(self, payload: Any, timeout: float, key: str | None, headers: dict[str, str]) -> Any:
        """Send, wait, decode. The caller keeps the deadline."""
        out = self.outlet.prepare(payload, key, headers, 0.0, SendOptions(expires_in=timeout))
        correlation = out.headers[h.CORRELATION] = out.id
        out.headers[h.REPLY_TO] = await self._inbox.address()
        coming = self._inbox.expect(correlation)
        try:
            (result,) = await self.outlet.send((out,))
            self.outlet.receipt(result)
            delivery = await coming
        finally:
            self._inbox.forget(correlation)
            if coming.done() and not coming.cancelled():
                coming.exception()  # looked at, so that it is not reported as never retrieved
        return await self._read(delivery)

    async def _read(self, delivery: Delivery) -> Any:
        if delivery.fault is not None:
            raise RemoteError("DecodeError", f"the reply to {self.what} can't be read: {said(delivery.fault)}")
        if (failed := delivery.headers.get(h.REPLY_ERROR)) is not None:
            raise RemoteError(failed, delivery.body.decode(errors="replace"))
        try:
            if self._store is not None:
                await fetch(self._store, delivery)
            reply = self._decode(delivery)
        except DecodeError as error:  # not DecodeError: in a handler it would condemn the message being handled
            raise RemoteError("DecodeError", f"the reply is not what {self.what} declares: {error}") from error
        if self._store is not None and h.CLAIM in delivery.headers:  # nobody else gets this reply
            self._inbox.afterwards(self._store.forget(delivery))
        return reply


def replies_allowed(inboxes: str | None, others: Sequence[str]) -> Callable[[str], bool]:
    """Whether a responder may answer to an address: a requester must not make it send anywhere else.

    `inboxes`: what the broker's own reply inboxes look like, None: anything. `others`: what settings allow beside,
    with "*" for any text.
    """
    if inboxes is None:
        return lambda address: True
    patterns = (inboxes, *(".*".join(map(re.escape, other.split("*"))) for other in others))
    form = re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.DOTALL)
    return lambda address: form.fullmatch(address) is not None


class Responder:
    """The responder's side of one Rpc: what runs for a request, and what is said when it fails for good.

    `answer(delivery)` decodes the request, calls the user's function and gives its reply. `expected`: the errors that
    the Rpc declares.
    """

    def __init__(
        self,
        what: str,
        answer: Callable[[Delivery], Awaitable[Any]],
        outlet: Outlet,
        is_allowed: Callable[[str], bool],
        expected: tuple[type[Exception], ...] = (),
    ) -> None:
        self._expected = expected
        self._what = what
        self._answer = answer
        self._outlet = outlet
        self._is_allowed = is_allowed

    async def handle(self, delivery: Delivery) -> None:
        """Answer a request. One that nobody waits for any more has expired, and does not come here."""
        address = delivery.headers.get(h.REPLY_TO)
        if address and not self._is_allowed(address):
            raise Reject(f"{self._what}: reply_to {address!a:.200} is no reply inbox; MSGBUS_REPLIES can allow it")
        reply = await self._answer(delivery)
        if address:
            await self._send(delivery, self._outlet.prepare(reply))

    async def answer_failure(self, delivery: Delivery, error: Exception) -> bool:
        """Tell the requester the class and text of the error; False where there is nobody to tell."""
        address = delivery.headers.get(h.REPLY_TO)
        if not address or not self._is_allowed(address):
            return False
        if isinstance(error, self._expected):
            log.info("%s: answered with an error that it declares: %s", self._what, shown(error))
        else:
            log.error("%s: the request failed: %s", self._what, shown(error), exc_info=error)
        out = self._outlet.prepare_error(said(error)[:_ERROR_CHARACTERS])
        out.headers[h.REPLY_ERROR] = type(error).__name__
        await self._send(delivery, out)
        return True

    async def _send(self, request: Delivery, out: Outgoing) -> None:
        out.address = Address("reply", request.headers[h.REPLY_TO])
        out.native = request.raw  # brokers may answer in the form that the request had
        out.headers[h.CORRELATION] = request.headers.get(h.CORRELATION, request.headers.get(h.ID, ""))
        (result,) = await self._outlet.send((out,))
        if isinstance(result, BusError):
            raise result
