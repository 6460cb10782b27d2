"""What a broker can't do is refused at start, with the reason and the remedy."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from tests.conftest import OpenScripted
from tests.models import LINE, ORDERED, ORDERS, PRICES, WORK, Ask, Order, Price
from tests.scripted import PLAIN, HandClock, Seen, consuming, delivery, turns

from msgbus import Bus, ConfigError, Limits, Message, Retry, Select, Settings, Start, Topic
from msgbus.envelope.claim import DirectoryStore
from msgbus.errors import RegistrationError
from msgbus.message import Source

REMEDY = "route it to another broker with MSGBUS_ROUTES"


async def handle(order: Order) -> None: ...


async def price(ask: Ask) -> Price:
    return Price(sku="", cents=0)


@pytest.mark.parametrize(
    ("lacks", "decorate", "text"),
    [
        ({"fanout": False}, lambda bus: bus.subscriber(ORDERS, group="g")(handle), f"no topics with groups; {REMEDY}"),
        ({"queues": False}, lambda bus: bus.consumer(WORK)(handle), f"has no queues; {REMEDY}"),
        ({"queues": False}, lambda bus: bus.responder(PRICES)(price), f"has no queues; {REMEDY}"),
        ({}, lambda bus: bus.subscriber(ORDERED, group="g")(handle), f"ordered=True, and .* keeps no order; {REMEDY}"),
        ({}, lambda bus: bus.consumer(LINE)(handle), "keeps no order"),
        (
            {},
            lambda bus: bus.subscriber(ORDERS, group="g", select=Select(start=Start("oldest")))(handle),
            "select.start needs replay",
        ),
        (
            {"lease_max": 60.0},
            lambda bus: bus.consumer(WORK, limits=Limits(timeout=61.0))(handle),
            r"Limits.timeout=61 s, .* takes the message back after 60 s",
        ),
        (
            {"retry_delay": 900.0},
            lambda bus: bus.consumer(WORK, retry=Retry(max_delay=901.0))(handle),
            r"Retry.max_delay=901 s, .* delays up to 900 s",
        ),
        (
            {"retry_delay": None, "lease_max": 60.0},
            lambda bus: bus.consumer(WORK, retry=Retry(max_delay=61.0))(handle),
            r"Retry.max_delay=61 s, .* lets us hold 60 s",
        ),
    ],
)
async def test_refused_at_start(scripted: OpenScripted, lacks: Any, decorate: Any, text: str) -> None:
    broker = scripted(replace(PLAIN, **lacks))
    bus = Bus("scripted://one")
    decorate(bus)
    with pytest.raises(ConfigError, match=text) as refused:
        await bus.consuming().__aenter__()
    assert "scripted://one" in str(refused.value)
    assert broker.receivers == []
    assert not broker.connected


@pytest.mark.parametrize(
    ("can", "decorate"),
    [
        ({"order": "key"}, lambda bus: bus.consumer(LINE)(handle)),
        ({"order": "source"}, lambda bus: bus.consumer(LINE)(handle)),
        ({"replay": True}, lambda bus: bus.subscriber(ORDERS, group="g", select=Select(start=Start()))(handle)),
        ({"lease_max": 60.0, "retry_delay": None}, lambda bus: bus.consumer(WORK, retry=Retry(attempts=1))(handle)),
        ({"lease_max": 60.0}, lambda bus: bus.consumer(WORK, limits=Limits(timeout=60.0))(handle)),
    ],
)
async def test_taken(scripted: OpenScripted, can: Any, decorate: Any) -> None:
    scripted(replace(PLAIN, **can))
    bus = Bus("scripted://one")
    decorate(bus)
    async with bus.consuming():
        await turns()
        assert bus.health().ready


async def test_a_route_is_the_remedy(scripted: OpenScripted) -> None:
    scripted(replace(PLAIN, queues=False))
    bus = Bus(settings=Settings(url="scripted://one", routes={"work": "memory://"}))
    bus.consumer(WORK)(handle)
    async with bus.consuming():
        await turns()
        assert bus.health().ready


async def test_a_filter_that_the_broker_has_not_is_refused_or_kept_by_the_core(
    clock: HandClock, scripted: OpenScripted
) -> None:
    """Nothing is silently weaker than it says."""
    broker = scripted()
    regional = Topic("regional", Order, filter_on=["country"])
    bus = Bus("scripted://one", clock=clock)
    seen: list[str] = []

    @bus.subscriber(regional, group="g", select=Select(where={"country": ["fr"]}))
    async def work(order: Order) -> None:
        seen.append(order.order_id)

    source = Source("topic", "regional", "g")
    broker.feed("regional", *(delivery(source, c, f'{{"order_id": "{c}"}}'.encode(), country=c) for c in ("de", "fr")))
    try:
        async with consuming(bus, clock):
            await clock.until(lambda: len(broker.settled) == 2)
    except ConfigError:
        return
    assert seen == ["fr"]


async def test_a_filter_on_the_embedded_broker(clock: HandClock) -> None:
    regional = Topic("regional", Order, filter_on=["country"])
    bus = Bus(clock=clock)
    seen: list[str] = []

    @bus.subscriber(regional, group="g", select=Select(where={"country": ["fr", "it"]}))
    async def work(order: Order) -> None:
        seen.append(order.order_id)

    async with consuming(bus, clock):
        for country in ("de", "fr", "it"):
            await bus.publish(regional, Order(order_id=country), headers={"country": country})
        await bus.publish(regional, Order(order_id="none"))
        await clock.until(lambda: len(seen) == 2)
        await clock.advance(1.0)
    assert seen == ["fr", "it"]


def test_a_filter_on_a_header_that_the_topic_does_not_promise_is_refused() -> None:
    with pytest.raises(ConfigError, match="country"):
        Bus().subscriber(ORDERS, group="g", select=Select(where={"country": ["fr"]}))(handle)


async def test_replay_from_the_oldest_on_the_embedded_broker(clock: HandClock) -> None:
    bus = Bus("memory://?replay=100", clock=clock)
    seen: list[str] = []

    @bus.subscriber(ORDERS, group="late", select=Select(start=Start("oldest")))
    async def work(order: Order) -> None:
        seen.append(order.order_id)

    async with bus:
        await bus.publish(ORDERS, Order(order_id="before"))
        async with consuming(bus, clock):
            await bus.publish(ORDERS, Order(order_id="after"))
            await clock.until(lambda: len(seen) == 2)
    assert seen == ["before", "after"]


class Country(Enum):
    FRANCE = "fr"
    ITALY = "it"


class Sale(BaseModel):
    country: Country
    online: bool = False


SALES = Topic("sales", Sale)
FRENCH = Select(fields={"country": [Country.FRANCE], "online": [True]})


async def test_a_filter_on_the_payload(clock: HandClock) -> None:
    bus = Bus(clock=clock)
    single: list[Sale] = []
    batches: list[Sale] = []

    @bus.subscriber(SALES, group="single", select=FRENCH)
    async def one(sale: Message[Sale]) -> None:
        single.append(sale.payload)

    @bus.subscriber(SALES, group="batches", select=FRENCH)
    async def many(sales: list[Sale]) -> None:
        batches.extend(sales)

    async with consuming(bus, clock):
        sales = [Sale(country=country, online=online) for country in Country for online in (False, True)]
        await bus.publish_many(SALES, sales)
        await clock.until(lambda: sum(consumer.subscription.stats.handled for consumer in bus.runners) == 8)
        assert [consumer.subscription.stats.skipped for consumer in bus.runners] == [3, 3]
    assert single == batches == [Sale(country=Country.FRANCE, online=True)]


def test_a_broker_is_told_of_it_as_json_has_it() -> None:
    bus = Bus()
    bus.subscriber(SALES, group="g", select=FRENCH)(handle_sale)
    ((source, _),) = bus.sources()
    assert source.fields == (("country", ("fr",)), ("online", (True,)))


def test_a_broker_is_not_told_where_bodies_may_be_in_a_store(tmp_path: Path) -> None:
    bus = Bus(store=DirectoryStore(tmp_path))
    bus.subscriber(SALES, group="g", select=FRENCH)(handle_sale)
    ((source, _),) = bus.sources()
    assert source.fields == ()


async def handle_sale(sale: Sale) -> None: ...


@pytest.mark.parametrize(
    ("topic", "fields", "said"),
    [
        (SALES, {"land": ["fr"]}, r"select.fields names 'land', Sale has \['country', 'online'\]"),
        (Topic("any", dict[str, str]), {"a": ["b"]}, "names 'a', dict has no declared fields"),
        (SALES, {"country": "fr"}, "give a list of text, whole numbers, booleans or None"),
        (SALES, {"country": [1.5]}, "give a list of text, whole numbers, booleans or None"),
    ],
)
def test_a_filter_on_what_the_payload_has_not_is_refused(
    topic: Topic[Any], fields: dict[str, list[object]], said: str
) -> None:
    with pytest.raises(RegistrationError, match=said):
        Bus().subscriber(topic, group="g", select=Select(fields=fields))


class Flagged(BaseModel):
    """A field that may hold several kinds of value."""

    flag: bool | int | float | str | None


@pytest.mark.parametrize(
    ("wanted", "through"),
    [
        ([True], [True]),
        ([False, None], [False, None]),
        ([1], [1, 1.0]),
        ([0, "a"], [0, "a"]),
        (["a", True, 1], [True, 1, 1.0, "a"]),
    ],
)
async def test_true_is_not_one_where_fields_are_selected(wanted: Any, through: Any) -> None:
    flags = Topic("flags", Flagged)
    bus = Bus()
    seen: Seen[Any] = Seen()
    counted: Seen[Any] = Seen()

    @bus.subscriber(flags, group="g", select=Select(fields={"flag": wanted}))
    async def chosen(payload: Flagged) -> None:
        seen.append(payload.flag)

    @bus.subscriber(flags, group="all")
    async def count(payload: Flagged) -> None:
        counted.append(payload.flag)

    values: list[Any] = [True, False, 1, 0, 1.0, "a", None]
    async with bus.consuming():
        await bus.publish_many(flags, [Flagged(flag=value) for value in values])
        await counted.reach(len(values))
        await seen.reach(len(through))
    assert sorted(map(repr, seen)) == sorted(map(repr, through))
