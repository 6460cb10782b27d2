"""Request/reply: answers, deadlines, errors of the responder, late and lost replies, expired requests."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.conftest import OpenScripted
from tests.models import ORDERS, PRICES, Ask, Order, Price
from tests.scripted import PLAIN, HandClock, Result, ScriptedBroker, consuming, turns

from msgbus import (
    Bus,
    ConfigError,
    Delivery,
    Disconnected,
    Limits,
    Message,
    Outgoing,
    Receipt,
    Refused,
    RemoteError,
    Retry,
    Rpc,
    Settings,
    Timeout,
)
from msgbus import headers as h
from msgbus.calling import Inbox
from msgbus.message import Act, Source
from msgbus.publishing.link import Link

INBOX = Source("reply", "inbox")
REQUESTS = Source("queue", "prices")


def reply_to(out: Outgoing, body: bytes = b'{"sku": "a", "cents": 5}', **headers: str) -> Delivery:
    """A reply to a request that was sent."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Delivery(
        body, INBOX, {h.CONTENT_TYPE: "application/json", h.CORRELATION: out.headers[h.CORRELATION], **named}
    )


def answering(broker: ScriptedBroker, *ids: str) -> None:
    """Have requests answered at once, but those for the skus in `ids`."""

    async def on_send(batch: Sequence[Outgoing]) -> Sequence[Result]:
        broker.feed("inbox", *(reply_to(out) for out in batch if json.loads(out.body)["sku"] not in ids))
        return [Receipt(out.id) for out in batch]

    broker.on_send = on_send


async def test_many_requests_at_once_get_their_own_answers(clock: HandClock) -> None:
    bus = Bus(clock=clock)

    @bus.responder(PRICES, limits=Limits(concurrency=100))
    async def price(ask: Ask) -> Price:
        await clock.sleep(10.0 - int(ask.sku) / 10)  # the last one first
        return Price(sku=ask.sku, cents=int(ask.sku) * 100)

    async with consuming(bus, clock):
        began = clock.now()
        asking = [asyncio.create_task(bus.request(PRICES, Ask(sku=str(i)))) for i in range(50)]
        await clock.until(lambda: all(task.done() for task in asking))
        assert clock.now() - began < 11.0, "side by side"
    assert [task.result() for task in asking] == [Price(sku=str(i), cents=i * 100) for i in range(50)]


async def test_a_responder_may_ask_for_the_message_and_dependencies_don_t_confuse_it(clock: HandClock) -> None:
    bus = Bus(clock=clock)

    @bus.responder(PRICES)
    async def price(message: Message[Ask]) -> Price:
        return Price(sku=message.headers["tenant"], cents=message.attempt)

    async with consuming(bus, clock):
        assert await bus.request(PRICES, Ask(sku="a"), headers={"tenant": "t"}) == Price(sku="t", cents=1)


async def test_a_request_times_out_and_the_late_reply_is_dropped(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    answered: list[str] = []

    @bus.responder(PRICES)
    async def price(ask: Ask) -> Price:
        await clock.sleep(5.0 if ask.sku == "slow" else 0.1)
        answered.append(ask.sku)
        return Price(sku=ask.sku, cents=1)

    async with consuming(bus, clock):
        began = clock.now()
        slow = asyncio.create_task(bus.request(PRICES, Ask(sku="slow"), timeout=2.0))
        await clock.until(slow.done)
        with pytest.raises(Timeout, match=r"Rpc\('prices', Ask, Price\): not done within 2 s"):
            slow.result()
        assert 2.0 <= clock.now() - began <= 2.1
        await clock.until(lambda: answered)
        quick = asyncio.create_task(bus.request(PRICES, Ask(sku="quick"), timeout=2.0))
        await clock.until(quick.done)
        assert quick.result() == Price(sku="quick", cents=1)


async def test_late_and_foreign_replies_are_counted(clock: HandClock) -> None:
    broker = ScriptedBroker()
    link = Link(broker, "scripted", clock)
    await link.connect(1.0)
    inbox = Inbox(link, clock)
    assert await inbox.address() == "inbox-1"
    expected = inbox.expect("1")
    inbox.expect("2")
    inbox.forget("2")
    broker.feed("inbox", *(Delivery(b"", INBOX, {h.CORRELATION: name}) for name in ("1", "1", "2", "?")))
    broker.feed("inbox", Delivery(b"", INBOX, {}))
    await turns()
    assert expected.done()
    assert inbox.late == 4
    await inbox.close()


async def test_every_reply_is_acknowledged(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    answering(broker)
    async with Bus("scripted://one", clock=clock) as bus:
        await bus.request(PRICES, Ask(sku="a"))
        await turns()
    assert [settlement.act for settlement in broker.settled] == [Act.ACK]
    ((out,),) = broker.sent
    assert out.headers[h.REPLY_TO] == "inbox-1"
    assert out.headers[h.CORRELATION] == out.id
    assert h.time_of(out.headers, h.EXPIRES) == clock.time() + 30.0


async def test_an_inbox_takes_and_settles_no_more_at_once_than_its_broker_does(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted(replace(PLAIN, receive_batch=5, settle_batch=2))
    bus = Bus("scripted://one", clock=clock)
    async with bus, asyncio.TaskGroup() as group:
        for sku in "abcde":
            group.create_task(bus.request(PRICES, Ask(sku=sku)))
        await clock.until(lambda: sum(map(len, broker.sent)) == 5)
        sent = [out for batch in broker.sent for out in batch]
        broker.feed("inbox", *map(reply_to, sent))
        await clock.until(lambda: len(broker.settled) == 5)
    assert broker.receivers[0].limits[0] == 5
    assert [len(batch) for batch in broker.settle_calls] == [2, 2, 1]


async def test_the_responder_s_error_reaches_the_requester_as_class_and_text_alone(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "msgbus")
    bus = Bus(clock=clock)

    @bus.responder(PRICES)
    async def price(ask: Ask) -> Price:
        secret = "dsn=postgres://user:password@db"  # noqa: F841 - what a traceback would show
        raise LookupError("no such sku: a")

    async with consuming(bus, clock):
        with pytest.raises(RemoteError, match="LookupError: no such sku: a") as failed:
            await bus.request(PRICES, Ask(sku="a"))
    assert (failed.value.type, failed.value.detail) == ("LookupError", "no such sku: a")
    assert failed.value.__cause__ is None
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_a_responder_is_retried_if_asked_and_the_last_error_is_the_answer(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    attempts: list[int] = []

    @bus.responder(PRICES, retry=Retry(attempts=3, in_place=2))
    async def price(message: Message[Ask]) -> Price:
        attempts.append(message.attempt)
        raise ValueError(f"attempt {message.attempt}")

    async with consuming(bus, clock):
        asking = asyncio.create_task(bus.request(PRICES, Ask(sku="a")))
        await clock.until(asking.done)
    assert attempts == [1, 2, 3]
    assert "attempt 3" in str(asking.exception())


async def test_a_responder_s_timeout_reaches_the_requester(clock: HandClock) -> None:
    bus = Bus(clock=clock)

    @bus.responder(PRICES, limits=Limits(timeout=1.0))
    async def price(ask: Ask) -> Price:
        await clock.sleep(1000)
        return Price(sku="", cents=0)

    async with consuming(bus, clock):
        asking = asyncio.create_task(bus.request(PRICES, Ask(sku="a")))
        await clock.until(asking.done)
        with pytest.raises(RemoteError, match=r"Timeout: .*1 s"):
            asking.result()


async def test_a_timeout_while_the_error_is_being_sent_does_not_kill_the_worker(clock: HandClock) -> None:
    held: list[str] = []

    async def hold(batch: Sequence[Outgoing], send: object) -> Sequence[Result]:
        for out in batch:
            if h.REPLY_ERROR in out.headers and not held:
                held.append(out.id)
                await clock.sleep(50.0)
        return await send(batch)  # type: ignore[operator,no-any-return]

    bus = Bus(clock=clock, publish_middlewares=[hold])

    @bus.responder(PRICES, limits=Limits(timeout=5.0, concurrency=1))
    async def price(ask: Ask) -> Price:
        if ask.sku == "bad":
            raise ValueError("bad")
        return Price(sku=ask.sku, cents=1)

    async with consuming(bus, clock):
        bad = asyncio.create_task(bus.request(PRICES, Ask(sku="bad"), timeout=100.0))
        await clock.until(lambda: held)
        await clock.advance(20.0)
        good = asyncio.create_task(bus.request(PRICES, Ask(sku="good"), timeout=100.0))
        await clock.until(good.done)
        bad.cancel()
        _, answer = await asyncio.gather(bad, good, return_exceptions=True)
        assert answer == Price(sku="good", cents=1)


async def test_a_request_that_is_none_is_answered_with_the_reason(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    other = Rpc("prices", Order, Price)  # a requester of another version

    @bus.responder(PRICES)
    async def price(ask: Ask) -> Price:
        return Price(sku="", cents=0)

    async with consuming(bus, clock):
        with pytest.raises(RemoteError, match=r"DecodeError: Rpc\('prices', Ask, Price\).*sku: Field required"):
            await bus.request(other, Order(order_id="1"))


async def test_a_reply_of_another_type_is_an_error_that_names_the_field(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    other = Rpc("prices", Ask, Order)

    @bus.responder(PRICES)
    async def price(ask: Ask) -> Price:
        return Price(sku="a", cents=1)

    async with consuming(bus, clock):
        with pytest.raises(Exception, match=r"Rpc\('prices', Ask, Order\).*order_id: Field required"):
            await bus.request(other, Ask(sku="a"))


async def test_expired_requests_are_dropped(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)
    started: list[str] = []

    @bus.responder(PRICES)
    async def price(message: Message[Ask]) -> Price:
        started.append(message.id)
        return Price(sku="a", cents=1)

    def request(message_id: str, expires: str) -> Delivery:
        headers = {h.ID: message_id, h.CONTENT_TYPE: "application/json", h.EXPIRES: expires, h.REPLY_TO: "r"}
        return Delivery(b'{"sku": "a"}', REQUESTS, headers)

    async with consuming(bus, clock):
        broker.feed(
            "prices",
            request("late", f"{clock.time() - 1:.3f}"),
            request("fresh", f"{clock.time() + 1:.3f}"),
            request("odd", "tomorrow"),
        )
        await clock.until(lambda: len(broker.settled) == 3)
    assert started == ["fresh", "odd"]
    assert [act for act, _ in broker.acts()] == [Act.ACK] * 3


async def test_a_request_without_a_way_back_is_handled_and_its_failure_is_dead(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)

    @bus.responder(PRICES)
    async def price(ask: Ask) -> Price:
        if ask.sku == "bad":
            raise ValueError
        return Price(sku="a", cents=1)

    async with consuming(bus, clock):
        for sku in ("good", "bad"):
            body = json.dumps({"sku": sku}).encode()
            broker.feed("prices", Delivery(body, REQUESTS, {h.ID: sku}))
        await clock.until(lambda: len(broker.settled) == 2)
    assert sorted(broker.acts(), key=lambda act: act[1]) == [(Act.DEAD, "bad"), (Act.ACK, "good")]
    assert broker.sent == []


async def test_a_lost_inbox_fails_all_that_wait_and_the_next_request_opens_another(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted()
    async with Bus("scripted://one", clock=clock) as bus:
        answering(broker, "slow", "slower")
        asking = [asyncio.create_task(bus.request(PRICES, Ask(sku=sku))) for sku in ("slow", "slower")]
        await turns()
        broker.feed("inbox", Disconnected("cut"))
        await turns()
        for task in asking:
            with pytest.raises(Disconnected, match="the reply may be too: cut"):
                task.result()
        again = asyncio.create_task(bus.request(PRICES, Ask(sku="quick")))
        await clock.until(again.done)
        assert again.result() == Price(sku="a", cents=5)
        assert broker.sent[-1][0].headers[h.REPLY_TO] == "inbox-2"


async def test_a_request_waits_for_an_inbox_that_can_t_be_opened_at_first(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted()
    answering(broker)
    answers = [Disconnected("cut"), Disconnected("cut again")]

    async def on_open() -> None:
        await turns(3)
        if answers:
            raise answers.pop()

    broker.on_open = on_open
    async with Bus("scripted://one", clock=clock) as bus:
        asking = asyncio.create_task(bus.request(PRICES, Ask(sku="a"), timeout=20.0))
        await clock.until(asking.done)
        assert asking.result() == Price(sku="a", cents=5)


async def test_an_inbox_that_is_refused_fails_the_request_and_the_next_one_tries_again(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted()
    answering(broker)
    answers = [Refused("not allowed to make queues")]

    async def on_open() -> None:
        if answers:
            raise answers.pop()

    broker.on_open = on_open
    async with Bus("scripted://one", clock=clock) as bus:
        refused = asyncio.create_task(bus.request(PRICES, Ask(sku="a")))
        await clock.until(refused.done)
        with pytest.raises(Refused, match="not allowed"):
            await refused
        assert await bus.request(PRICES, Ask(sku="a")) == Price(sku="a", cents=5)


async def test_a_request_that_was_refused_leaves_nothing_behind(clock: HandClock) -> None:
    async with Bus(clock=clock) as bus:
        with pytest.raises(Refused, match="queue prices is not there"):
            await bus.request(PRICES, Ask(sku="a"))


async def test_a_broker_without_inboxes_refuses_requests_with_the_remedy(scripted: OpenScripted) -> None:
    scripted(replace(PLAIN, reply=False))
    async with Bus("scripted://one") as bus:
        with pytest.raises(ConfigError, match=r"Rpc\('prices'.*has no reply inboxes; route it to another broker with"):
            await bus.request(PRICES, Ask(sku="a"))


async def test_calls_on_two_brokers_have_an_inbox_each(clock: HandClock) -> None:
    other = Rpc("other", Ask, Price)
    bus = Bus(clock=clock, settings=Settings(url="memory://", routes={"other": "memory://?depth=500"}))

    @bus.responder(PRICES)
    async def price(ask: Ask) -> Price:
        return Price(sku="prices", cents=1)

    @bus.responder(other)
    async def another(ask: Ask) -> Price:
        return Price(sku="other", cents=2)

    async with consuming(bus, clock):
        for rpc in (PRICES, other):
            asking = asyncio.create_task(bus.request(rpc, Ask(sku="a"), timeout=5.0))
            await clock.until(asking.done)
            assert asking.result().sku == rpc.name


async def test_a_request_in_a_handler_keeps_the_causation(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    seen: list[Message[Ask]] = []

    @bus.subscriber(ORDERS, group="g")
    async def handle(order: Order) -> None:
        await bus.request(PRICES, Ask(sku="a"))

    @bus.responder(PRICES)
    async def price(message: Message[Ask]) -> Price:
        seen.append(message)
        return Price(sku="a", cents=1)

    async with consuming(bus, clock):
        receipt = await bus.publish(ORDERS, Order(order_id="1"))
        await clock.until(lambda: seen)
    assert seen[0].causation_id == receipt.id


class OutOfStock(Exception):
    """An answer, not a failure."""


async def test_an_error_that_the_call_declares_is_an_answer(clock: HandClock, caplog: pytest.LogCaptureFixture) -> None:
    """Told at once, without another attempt and without a traceback; any other one is a failure as before."""
    bus, attempts = Bus(clock=clock), 0
    stock = Rpc("stock", Ask, Price, errors=[OutOfStock])

    @bus.responder(stock, retry=Retry(attempts=3, first_delay=5.0, jitter=0))
    async def look(ask: Ask) -> Price:
        nonlocal attempts
        attempts += 1
        raise OutOfStock(ask.sku) if ask.sku == "tea" else LookupError(ask.sku)

    caplog.set_level(logging.INFO, "msgbus")
    async with consuming(bus, clock):
        for sku, error, expected in (("tea", "OutOfStock", 1), ("salt", "LookupError", 4)):
            asking = asyncio.create_task(bus.request(stock, Ask(sku=sku), timeout=60.0))
            await clock.until(asking.done)
            failed = asking.exception()
            assert isinstance(failed, RemoteError)
            assert (failed.type, failed.detail, attempts) == (error, sku, expected)
    answered = [r for r in caplog.records if "OutOfStock" in r.getMessage()]
    assert [(r.levelno, r.exc_info) for r in answered] == [(logging.INFO, None)]
    assert any(r.levelno == logging.ERROR and r.exc_info for r in caplog.records)
