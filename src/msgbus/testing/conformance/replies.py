"""Reply inboxes: an address that reaches one requester, for as long as it listens."""

# ruff: noqa: S101

from __future__ import annotations

import asyncio
import re

from msgbus import headers as h
from msgbus.broker import Receiver
from msgbus.errors import BusError
from msgbus.message import Address, Receipt
from msgbus.testing.conformance.base import Base
from msgbus.testing.conformance.claims import about, not_claimed
from msgbus.testing.conformance.lab import INBOX, Lab, bodies


async def _inbox(lab: Lab, *, second: bool = False) -> Receiver:
    """An open inbox."""
    if not lab.can.reply:
        not_claimed("reply", "the bus refuses calls, see test_calls_are_refused_without_inboxes")
    return await lab.open(INBOX, await lab.second() if second else None)


def _forged(address: str, form: str) -> list[str]:
    """Addresses of nobody that look like an inbox, as a requester may write them."""
    head, middle = address[: -len(address) // 3], address[-len(address) // 3 :]
    odd = (address[:-1], address + "A", head + middle[::-1], address[:-8] + "00000000", address + "A" * 500)
    return [each for each in odd if each != address and re.fullmatch(form, each)]


class ReplyTests(Base):
    """Receivers of `Source("reply", ...)`."""

    @about("reply")
    async def test_every_inbox_has_an_address_of_its_own(self, lab: Lab) -> None:
        inboxes = [await _inbox(lab), await _inbox(lab, second=True)]
        addresses = [inbox.address for inbox in inboxes]
        assert all(addresses)
        assert len(set(addresses)) == len(addresses)

    @about("inboxes")
    async def test_an_inbox_looks_as_it_is_said_to_look(self, lab: Lab) -> None:
        inbox = await _inbox(lab)
        form = lab.can.inboxes
        if form is None:
            not_claimed("inboxes", "a responder answers wherever a requester says")
        assert re.fullmatch(form, inbox.address)
        for other in (await lab.home(), lab.group(topic="any")):
            assert not re.fullmatch(form, other.name), "a requester could have replies sent there"

    @about("reply")
    async def test_other_sources_have_none(self, lab: Lab) -> None:
        receiver = await lab.open(await lab.home())
        assert receiver.address == ""

    @about("reply", "queues")
    async def test_a_reply_reaches_its_inbox(self, lab: Lab) -> None:
        inbox, other = await _inbox(lab), await _inbox(lab, second=True)
        source = await lab.home()
        headers = {h.REPLY_TO: inbox.address, h.CORRELATION: "c1"}
        await lab.send(lab.out(source, b"question", headers=headers))
        (request,) = await lab.drain(source, 1)
        assert request.headers[h.REPLY_TO] == inbox.address
        to = Address("reply", request.headers[h.REPLY_TO])
        await lab.send(lab.out(to, bytes(range(256)), headers={h.CORRELATION: request.headers[h.CORRELATION]}))
        (reply,) = await lab.collect(inbox, 1)
        assert (reply.body, reply.headers[h.CORRELATION]) == (bytes(range(256)), "c1")
        await lab.ack(inbox, [reply])
        await lab.nothing(other)

    @about("reply")
    async def test_a_responder_on_another_connection_answers(self, lab: Lab) -> None:
        inbox = await _inbox(lab)
        responder = await lab.second()
        outs = lab.fit(
            *(lab.out(Address("reply", inbox.address), n, headers={h.CORRELATION: str(n)}) for n in range(3))
        )
        for out in outs:
            (result,) = await responder.send([out])
            assert isinstance(result, Receipt)
        replies = await lab.collect(inbox, 3)
        assert sorted(bodies(replies)) == [b"0", b"1", b"2"]
        await lab.ack(inbox, replies)

    @about("reply")
    async def test_a_reply_to_an_inbox_that_is_gone_is_no_error(self, lab: Lab) -> None:
        inbox, other = await _inbox(lab), await _inbox(lab)
        await lab.leave(inbox)
        await lab.send(lab.out(Address("reply", inbox.address), b"late", headers={h.CORRELATION: "c1"}))
        await lab.send(lab.out(Address("reply", other.address), b"in time", headers={h.CORRELATION: "c2"}))
        assert bodies(await lab.collect(other, 1)) == [b"in time"]

    @about("reply", "inboxes")
    async def test_a_forged_reply_address_disturbs_no_other(self, lab: Lab) -> None:
        inbox = await _inbox(lab)
        if lab.can.inboxes is None:
            not_claimed("inboxes", "a responder answers wherever a requester says")
        for forged in _forged(inbox.address, lab.can.inboxes):
            for name in (inbox.address, forged, inbox.address):
                out = lab.out(Address("reply", name), b"?", headers={h.CORRELATION: "c"})
                (result,) = await lab.broker.send([out])
                assert isinstance(result, Receipt) or (name == forged and isinstance(result, BusError))
            replies = await lab.collect(inbox, 2)
            assert len(replies) == 2
            await lab.ack(inbox, replies)
        await lab.nothing(inbox)

    @about("reply")
    async def test_an_inbox_that_is_left_is_gone(self, lab: Lab) -> None:
        lab.harness.needs("places")
        before = set(await lab.harness.places())
        inbox = await _inbox(lab)
        await lab.leave(inbox)
        async with asyncio.timeout(lab.harness.patience):
            while left := set(await lab.harness.places()) - before:
                assert left
                await asyncio.sleep(lab.harness.quiet)  # some servers take their time to forget
