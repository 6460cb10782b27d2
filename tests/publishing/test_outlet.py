"""Publishing: what is sent, what is refused and how the text says so, partial failures, back-pressure, options."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import pytest
from tests.conftest import OpenScripted
from tests.models import ORDERS, WORK, Order, Refund, orders
from tests.scripted import PLAIN, HandClock, Result, consuming, delivery

from msgbus import (
    Bus,
    ConfigError,
    Json,
    Message,
    Outgoing,
    PublishFailed,
    Queue,
    Receipt,
    Refused,
    RegistrationError,
    Retry,
    Settings,
    Timeout,
    Topic,
)
from msgbus import headers as h
from msgbus.broker import Capabilities
from msgbus.envelope.claim import DirectoryStore
from msgbus.message import Address, Source
from msgbus.options import SendOptions
from msgbus.publishing.middleware import SendNext
from msgbus.publishing.outlet import copy_of

EITHER = Topic[Order | Refund]("either", Order | Refund, key="order_id")
SOURCE = Source("queue", "work")


async def test_what_a_message_carries(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    async with Bus("scripted://one", clock=clock, settings=Settings(service="shop", prefix="test-")) as bus:
        receipt = await bus.publish(ORDERS, Order(order_id="1", customer_id="c7"), headers={"tenant": "t"})
    ((out,),) = broker.sent
    assert out.address == Address("topic", "test-orders")
    assert (out.id, out.key, receipt.id) == (receipt.id, "c7", out.id)
    assert json.loads(out.body) == {"order_id": "1", "customer_id": "c7"}
    assert out.headers == {
        h.ID: out.id,
        h.TYPE: "Order",
        h.SOURCE: "shop",
        h.TIME: "2027-01-15T08:16:40.000Z",
        h.SPEC: "1.0",
        h.KEY: "c7",
        h.CONTENT_TYPE: "application/json",
        h.CORRELATION: out.id,
        "tenant": "t",
    }


async def test_the_rarer_options(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted(replace(PLAIN, send_delay=60.0))
    options = SendOptions(id="mine", dedup_id="once", expires_in=30.0, native="n")
    async with Bus("scripted://one", clock=clock) as bus:
        receipt = await bus.send(WORK, Order(order_id="1"), key="k", delay=5.0, options=options)
    ((out,),) = broker.sent
    assert receipt.id == out.id == out.headers[h.ID] == out.headers[h.CORRELATION] == "mine"
    assert (out.key, out.delay, out.dedup_id, out.native) == ("k", 5.0, "once", "n")
    assert out.expires_at == clock.time() + 30.0
    assert h.time_of(out.headers, h.EXPIRES) == out.expires_at


async def test_each_member_of_a_union_says_its_type(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    async with Bus("scripted://one", clock=clock) as bus:
        await bus.publish(EITHER, Refund(order_id="1"))
        await bus.publish(EITHER, Order(order_id="2"))
    assert [batch[0].headers[h.TYPE] for batch in broker.sent] == ["Refund", "Order"]


async def test_the_type_stays_native_where_a_group_may_ask_for_one_member(scripted: OpenScripted) -> None:
    broker = scripted(replace(PLAIN, headers=10))
    async with Bus("scripted://one") as bus:
        await bus.publish(EITHER, Refund(order_id="1"))
        await bus.publish(ORDERS, Order(order_id="2"))
    assert [batch[0].headers.get(h.TYPE) for batch in broker.sent] == ["Refund", None]


async def test_a_key_is_a_lane_only_where_order_is_demanded(scripted: OpenScripted) -> None:
    broker = scripted(replace(PLAIN, order="key", send_order="connection"))
    async with Bus("scripted://one") as bus:
        await bus.publish(Topic("hint", Order, key="customer_id"), Order(order_id="1"))
        await bus.publish(Topic("demand", Order, key="customer_id", ordered=True), Order(order_id="1"))
    assert [(out.key, out.lane) for (out,) in broker.sent] == [("c", None), ("c", "c")]


async def test_limits_are_those_of_the_target(monkeypatch: pytest.MonkeyPatch, scripted: OpenScripted) -> None:
    broker = scripted(replace(PLAIN, message_bytes=5_000, send_delay=60.0))

    def capabilities(source: Source | None = None) -> Capabilities:
        is_topic = source is not None and source.kind == "topic"
        return replace(broker.caps, message_bytes=1_000, send_delay=None) if is_topic else broker.caps

    monkeypatch.setattr(broker, "capabilities", capabilities)
    async with Bus("scripted://one") as bus:
        await bus.send(WORK, Order(order_id="1" * 2_000), delay=5.0)
        with pytest.raises(Refused, match=r"this broker takes 1,000"):
            await bus.publish(ORDERS, Order(order_id="1" * 2_000))
        with pytest.raises(Refused, match="no delays"):
            await bus.publish(ORDERS, Order(order_id="1"), delay=5.0)


async def test_a_bare_topic_sends_the_body_alone_where_there_are_no_headers(scripted: OpenScripted) -> None:
    broker = scripted(replace(PLAIN, headers=0, message_bytes=10_000))
    bare = Topic("bare", Order, key="customer_id", bare=True)
    async with Bus("scripted://one", store=DirectoryStore(Path("unused"))) as bus:
        await bus.publish(bare, Order(order_id="1"))
        await bus.publish(ORDERS, Order(order_id="1"))
        with pytest.raises(Refused, match="this broker takes 10,000"):
            await bus.publish(bare, Order(order_id="1" * 20_000))
    (first,), (second,) = broker.sent
    assert json.loads(first.body) == {"order_id": "1", "customer_id": "c"}
    assert first.key == "c"
    assert json.loads(second.body)["data"] == json.loads(first.body)


async def test_a_bare_topic_changes_nothing_where_there_are_headers(scripted: OpenScripted) -> None:
    broker = scripted()
    async with Bus("scripted://one") as bus:
        await bus.publish(Topic("bare", Order, bare=True), Order(order_id="1"))
    assert broker.sent[0][0].headers[h.TYPE] == "Order"


def test_nobody_can_ask_a_bare_topic_for_one_type() -> None:
    with pytest.raises(RegistrationError, match="bare=True carries no type"):
        Topic("bare", Order | Refund, bare=True).only(Order)


async def test_a_subclass_goes_as_what_was_declared(clock: HandClock, scripted: OpenScripted) -> None:
    class Special(Order):
        extra: int = 5

    broker = scripted()
    async with Bus("scripted://one", clock=clock) as bus:
        await bus.publish(ORDERS, Special(order_id="1"))
    ((out,),) = broker.sent
    assert out.headers[h.TYPE] == "Order"
    assert json.loads(out.body) == {"order_id": "1", "customer_id": "c"}


WRONG = cast(Order, Refund(order_id="1"))


async def test_a_wrong_payload_is_refused_and_nothing_is_sent(scripted: OpenScripted) -> None:
    broker = scripted()
    async with Bus("scripted://one") as bus:
        with pytest.raises(Refused, match="topic orders: the payload is of type Refund, the type declared is Order"):
            await bus.publish(ORDERS, WRONG)
        with pytest.raises(Refused, match="the type declared is Order or Refund"):
            await bus.publish(EITHER, cast(Order, 5))
    assert broker.sent == []


async def test_wrong_ones_among_many_are_refused_and_the_others_sent(scripted: OpenScripted) -> None:
    broker = scripted(replace(PLAIN, message_bytes=8_000))
    large = Order(order_id="large", customer_id="x" * 9_000)
    async with Bus("scripted://one") as bus:
        with pytest.raises(PublishFailed, match="queue work: 3 of 5 entries failed, the first: queue work: ") as failed:
            await bus.publish_many(WORK, [WRONG, Order(order_id="1"), large, Order(order_id="2"), WRONG])
        kinds = [type(result) for result in failed.value.results]
        assert kinds == [Refused, Receipt, Refused, Receipt, Refused]
        with pytest.raises(PublishFailed, match="1 of 1 entries failed"):
            await bus.publish_many(WORK, [WRONG])
    assert [json.loads(out.body)["order_id"] for batch in broker.sent for out in batch] == ["1", "2"]


async def test_a_payload_that_can_t_be_encoded_is_refused(scripted: OpenScripted) -> None:
    numbers = Topic("numbers", dict[str, float])
    broker = scripted()
    async with Bus("scripted://one") as bus:
        with pytest.raises(Refused, match=r"topic numbers: the payload can't be encoded: a is nan"):
            await bus.publish(numbers, {"a": float("nan")})
    assert broker.sent == []


async def test_a_message_over_the_limit_is_refused_with_both_figures(scripted: OpenScripted) -> None:
    broker = scripted(replace(PLAIN, message_bytes=10_000))
    blobs = Queue("blobs", bytes)
    async with Bus("scripted://one") as bus:
        with pytest.raises(Refused, match=r"queue blobs: the message has 10,\d\d\d bytes .* takes 10,000: .* store"):
            await bus.send(blobs, b"x" * 9_990)
        await bus.send(blobs, b"x" * 9_000)
    assert len(broker.sent) == 1


async def test_a_body_over_the_codec_s_limit_is_refused(scripted: OpenScripted) -> None:
    scripted()
    small = Topic("small", Order, codec=Json(max_bytes=50))
    async with Bus("scripted://one") as bus:
        with pytest.raises(Refused, match=r"topic small: the body has \d+ bytes, the codec allows 50"):
            await bus.publish(small, Order(order_id="1" * 50))


@pytest.mark.parametrize(
    ("longest", "delay", "text"),
    [(None, 1.0, "no delays"), (60.0, 61.0, "delays of 0 to 60 s"), (60.0, -1.0, "delays of 0 to 60 s")],
)
async def test_a_delay_the_broker_has_not_is_refused(
    scripted: OpenScripted, longest: float | None, delay: float, text: str
) -> None:
    broker = scripted(replace(PLAIN, send_delay=longest))
    async with Bus("scripted://one") as bus:
        with pytest.raises(Refused, match=f"topic orders: delay={delay:g} s, this broker has {text}"):
            await bus.publish(ORDERS, Order(order_id="1"), delay=delay)
    assert broker.sent == []


async def test_headers_that_are_no_text_are_refused(scripted: OpenScripted) -> None:
    broker = scripted()
    async with Bus("scripted://one") as bus:
        with pytest.raises(Refused, match="tenant"):
            await bus.publish(ORDERS, Order(order_id="1"), headers=cast(Mapping[str, str], {"tenant": 5}))
    assert broker.sent == []


@pytest.mark.parametrize("name", [h.PACKED, h.ENCODING])
async def test_a_header_that_the_envelope_needs_is_refused(scripted: OpenScripted, name: str) -> None:
    """Whoever opens the envelope would take it for its own, and drop it or worse."""
    broker = scripted()
    async with Bus("scripted://one") as bus:
        with pytest.raises(Refused, match=f"topic orders: header '{name}' is of the envelope"):
            await bus.publish(ORDERS, Order(order_id="1"), headers={name: "base64"})
    assert not broker.sent


async def test_headers_that_are_no_text_refuse_each_of_many(scripted: OpenScripted) -> None:
    broker = scripted()
    async with Bus("scripted://one") as bus:
        with pytest.raises(PublishFailed, match=r"2 of 2 entries failed, the first: .*tenant") as failed:
            await bus.publish_many(ORDERS, [Order(order_id="1")] * 2, headers=cast(Mapping[str, str], {"tenant": 5}))
    assert [type(result) for result in failed.value.results] == [Refused, Refused]
    assert broker.sent == []


async def test_some_of_many_failed(scripted: OpenScripted) -> None:
    broker = scripted()

    async def on_send(batch: Sequence[Outgoing]) -> Sequence[Result]:
        return [Refused("too odd") if b"bad" in out.body else Receipt(out.id) for out in batch]

    broker.on_send = on_send
    async with Bus("scripted://one") as bus:
        with pytest.raises(PublishFailed, match=r"topic orders: 2 of 4 entries failed, the first: too odd") as failed:
            await bus.publish_many(ORDERS, orders("1", "bad", "3", "bad"))
        assert [type(result) for result in failed.value.results] == [Receipt, Refused, Receipt, Refused]
        assert len(await bus.publish_many(ORDERS, orders(*map(str, range(35))))) == 35
        assert await bus.publish_many(ORDERS, []) == []
    assert all(len(batch) <= 10 for batch in broker.sent)


async def test_a_queue_that_is_not_there_is_an_error_and_a_topic_without_subscribers_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "msgbus")
    async with Bus() as bus:
        with pytest.raises(Refused, match="queue work is not there"):
            await bus.send(WORK, Order(order_id="1"))
        for _ in range(3):
            await bus.publish(ORDERS, Order(order_id="1"))
        await bus.publish_many(ORDERS, orders("1", "2"))
    assert [record.getMessage() for record in caplog.records] == ["topic orders: nobody subscribes to it (said once)"]


async def test_a_topic_that_must_have_a_subscriber() -> None:
    strict = Topic("strict", Order, require_subscriber=True)
    bus = Bus()
    async with bus:
        with pytest.raises(Refused, match="topic strict: nobody subscribes"):
            await bus.publish(strict, Order(order_id="1"))

    @bus.subscriber(strict, group="g")
    async def handle(order: Order) -> None: ...

    async with bus.consuming():
        await bus.publish(strict, Order(order_id="1"))


async def test_a_handler_that_publishes_to_its_own_full_queue_fails_and_does_not_hang(clock: HandClock) -> None:
    bus = Bus("memory://?depth=1", clock=clock, settings=Settings(publish_timeout=5.0, concurrency=1))
    errors: list[BaseException] = []
    done: list[str] = []

    @bus.consumer(WORK, retry=Retry(first_delay=1.0, jitter=0))
    async def work(message: Message[Order]) -> None:
        if message.payload.order_id == "spread" and not errors:
            try:
                for order in orders("a", "b", "c", "d", "e", "f"):
                    await bus.send(WORK, order)
            except Timeout as error:
                errors.append(error)
                raise
        done.append(message.payload.order_id)

    async with consuming(bus, clock):
        await bus.send(WORK, Order(order_id="spread"))
        await clock.until(lambda: "spread" in done)
    assert "queue work: not done within 5 s" in str(errors[0])


async def test_a_publisher_waits_for_room_in_a_full_queue(clock: HandClock) -> None:
    bus = Bus("memory://?depth=3", clock=clock)
    seen: list[str] = []

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        seen.append(order.order_id)
        await clock.sleep(0.2)

    async with consuming(bus, clock):
        publishing = asyncio.create_task(bus.publish_many(WORK, orders(*map(str, range(200)))))
        await clock.until(lambda: len(seen) == 200)
        assert len(publishing.result()) == 200
    assert seen == [str(i) for i in range(200)]


async def test_a_full_queue_does_not_hold_up_another_one(clock: HandClock) -> None:
    other = Queue("other", Order)
    bus = Bus("memory://?depth=2", clock=clock)

    @bus.consumer(WORK, retry=Retry(attempts=1))
    async def work(order: Order) -> None:
        await clock.sleep(1000)

    @bus.consumer(other)
    async def handle(order: Order) -> None: ...

    async with consuming(bus, clock):
        stuck = asyncio.create_task(bus.publish_many(WORK, orders(*map(str, range(1000))), timeout=100.0))
        await clock.advance(1.0)
        began = clock.now()
        fine = [asyncio.create_task(bus.send(other, order)) for order in orders("1", "2")]
        await clock.until(lambda: all(task.done() for task in fine))
        assert clock.now() - began <= 1.5
        stuck.cancel()
        await asyncio.wait([stuck])


async def test_publish_middlewares_see_batches_the_first_outermost(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    log: list[str] = []

    def named(name: str) -> Any:
        async def middleware(batch: Sequence[Outgoing], send: SendNext) -> Sequence[Result]:
            log.append(f"{name} {len(batch)}")
            for out in batch:
                out.headers[name] = "seen"
            results = await send(batch)
            log.append(f"{name} after")
            return results

        return middleware

    async with Bus("scripted://one", clock=clock, publish_middlewares=[named("a"), named("b")]) as bus:
        await bus.publish_many(ORDERS, orders("1", "2"))
    assert log == ["a 2", "b 2", "b after", "a after"]
    assert all(out.headers["a"] == out.headers["b"] == "seen" for batch in broker.sent for out in batch)


async def test_a_publish_middleware_may_send_twice(clock: HandClock, scripted: OpenScripted) -> None:
    """As one does that retries, on a broker where the envelope must be fitted."""
    broker = scripted(replace(PLAIN, headers=0, binary=False))

    async def twice(batch: Sequence[Outgoing], send: SendNext) -> Sequence[Result]:
        await send(batch)
        return await send(batch)

    bodies: list[bytes] = []

    async def on_send(batch: Sequence[Outgoing]) -> Sequence[Result]:
        bodies.extend(out.body for out in batch)
        return [Receipt(out.id) for out in batch]

    broker.on_send = on_send
    async with Bus("scripted://one", clock=clock, publish_middlewares=[twice]) as bus:
        await bus.publish(ORDERS, Order(order_id="1"))
    assert bodies[0] == bodies[1]


async def test_what_a_publish_middleware_sets_goes_out_where_the_envelope_is_fitted(
    clock: HandClock, scripted: OpenScripted
) -> None:
    broker = scripted(replace(PLAIN, headers=10))
    given: list[Outgoing] = []

    async def fill(batch: Sequence[Outgoing], send: SendNext) -> Sequence[Result]:
        for out in batch:
            for number, field in enumerate(fields(out)):
                if field.name not in ("address", "body", "headers"):
                    number_or_text = number if field.name in ("delay", "expires_at") else f"{field.name} {number}"
                    setattr(out, field.name, number_or_text)
        given.extend(batch)
        return await send(batch)

    async with Bus("scripted://one", clock=clock, publish_middlewares=[fill]) as bus:
        await bus.publish(ORDERS, Order(order_id="1"))
    ((sent,),) = broker.sent
    assert sent is not given[0]
    for field in fields(sent):
        if field.name != "headers":
            assert getattr(sent, field.name) == getattr(given[0], field.name)


async def test_what_a_handler_publishes_belongs_to_what_it_handles(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()
    bus = Bus("scripted://one", clock=clock)

    @bus.consumer(WORK)
    async def work(order: Order) -> None:
        await bus.publish(ORDERS, order)
        await asyncio.create_task(bus.publish(ORDERS, order))

    async with consuming(bus, clock):
        body = b'{"order_id": "1"}'
        correlated = delivery(SOURCE, "m1", body)
        correlated.headers = {**correlated.headers, h.CORRELATION: "first"}
        broker.feed("work", correlated, delivery(SOURCE, "m2", body))
        await clock.until(lambda: len(broker.settled) == 2)
        await bus.publish(ORDERS, Order(order_id="2"))
    caused = sorted((batch[0].headers[h.CORRELATION], batch[0].headers[h.CAUSATION]) for batch in broker.sent[:4])
    outside = broker.sent[4][0]
    assert caused == [("first", "m1"), ("first", "m1"), ("m2", "m2"), ("m2", "m2")]
    assert h.CAUSATION not in outside.headers
    assert outside.headers[h.CORRELATION] == outside.id


async def test_correlation_goes_on_through_a_chain(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    seen: dict[str, Message[Order]] = {}

    @bus.subscriber(ORDERS, group="first")
    async def first(message: Message[Order]) -> None:
        seen["first"] = message
        await bus.send(WORK, message.payload)

    @bus.consumer(WORK)
    async def second(message: Message[Order]) -> None:
        seen["second"] = message

    async with consuming(bus, clock):
        receipt = await bus.publish(ORDERS, Order(order_id="1"))
        await clock.until(lambda: len(seen) == 2)
    assert seen["first"].correlation_id == seen["second"].correlation_id == receipt.id
    assert seen["first"].causation_id == ""
    assert seen["second"].causation_id == receipt.id


async def test_a_publish_is_cancelled_with_its_task(clock: HandClock, scripted: OpenScripted) -> None:
    broker = scripted()

    async def on_send(batch: Sequence[Outgoing]) -> Sequence[Result]:
        await clock.sleep(1000)
        return []

    broker.on_send = on_send
    async with Bus("scripted://one", clock=clock) as bus:
        publishing = asyncio.create_task(bus.publish(ORDERS, Order(order_id="1")))
        await clock.advance(1.0)
        publishing.cancel()
        await asyncio.wait([publishing])
        assert publishing.cancelled()


@pytest.mark.parametrize(
    "timeout",
    [0.0, -1.0],
)
async def test_a_timeout_of_nothing_is_not_the_default(
    clock: HandClock, scripted: OpenScripted, timeout: float
) -> None:
    broker = scripted()

    async def on_send(batch: Sequence[Outgoing]) -> Sequence[Result]:
        await clock.sleep(1000)
        return []

    broker.on_send = on_send
    async with Bus("scripted://one", clock=clock) as bus:
        publishing = asyncio.create_task(bus.publish(ORDERS, Order(order_id="1"), timeout=timeout))
        await clock.advance(1.0)
        publishing.cancel()
        (result,) = await asyncio.gather(publishing, return_exceptions=True)
        assert isinstance(result, (Timeout, ConfigError))


def test_a_copy_has_every_field_and_headers_of_its_own() -> None:
    values = {field.name: {"a": "b"} if field.name == "headers" else object() for field in fields(Outgoing)}
    out = Outgoing(**values)  # type: ignore[arg-type]
    copy = copy_of(out)
    assert {field.name: getattr(copy, field.name) for field in fields(Outgoing)} == values
    assert copy.headers is not out.headers
