"""What the lifespan yields, handlers and dependencies ask for by its class; what is not there is told at start."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, Protocol, runtime_checkable

import pytest
from tests.models import ORDERS, PRICES, WORK, Ask, Order, Price

from msgbus import Bus, BusError, Delivery, Depends, Handle, RegistrationError, Router, from_lifespan
from msgbus.testing import TestBus


class Pool:
    """A resource."""

    def __init__(self, name: str = "the pool") -> None:
        self.name = name
        self.is_open = False

    def rows(self) -> int:
        """Something of it."""
        return 3


class Client:
    """Another one."""


class BetterPool(Pool):
    """A subclass of it."""


@runtime_checkable
class HasRows(Protocol):
    """What a handler needs of it."""

    def rows(self) -> int: ...


class Blind(Protocol):
    """What can't be told at run time."""

    def rows(self) -> int: ...


@dataclass
class Resources:
    """Several."""

    pool: Pool
    client: Client


class Pair(NamedTuple):
    """Several."""

    pool: Pool
    client: Client


Shared = Annotated[Pool, Depends(from_lifespan(Pool))]
SEEN: list[str] = []


async def transaction(pool: Shared) -> AsyncIterator[str]:
    yield f"transaction of {pool.name}"


def quick(client: Annotated[Client, Depends(from_lifespan(Client))]) -> str:
    return type(client).__name__


class Named:
    """A dependency that is an instance."""

    def __call__(self) -> str:
        return "named"


class Unit:
    """A dependency that is a class, and has one of its own."""

    def __init__(self, pool: Shared) -> None: ...


class Making:
    """One that is an instance, and has one of its own."""

    def __call__(self, pool: Shared) -> str:
        return ""


def yielding(value: object) -> Callable[[Bus], AbstractAsyncContextManager[object]]:
    @asynccontextmanager
    async def lifespan(bus: Bus) -> AsyncIterator[object]:
        yield value

    return lifespan


def served(router: Router) -> None:
    """Handlers of each kind that ask for it, in a module that knows no bus."""

    @router.consumer(WORK)
    async def work(order: Order, pool: Shared) -> None:
        SEEN.append(f"work with {pool.name}, {'open' if pool.is_open else 'closed'}")

    @router.subscriber(ORDERS, group="many")
    def many(batch: list[Order], pool: Shared, within: Annotated[str, Depends(transaction)]) -> None:
        SEEN.append(f"batch with {pool.name}, {within}")

    @router.responder(PRICES)
    async def price(ask: Ask, rows: Annotated[HasRows, Depends(from_lifespan(HasRows))]) -> Price:
        return Price(sku=ask.sku, cents=rows.rows())


async def test_each_kind_of_handler_and_dependency_gets_it_open() -> None:
    SEEN.clear()

    async def named(delivery: Delivery, handle: Handle) -> None:
        SEEN.append(f"middleware of {(await from_lifespan(Pool)()).name}")
        await handle(delivery)

    @asynccontextmanager
    async def lifespan(bus: Bus) -> AsyncIterator[Pool]:
        pool = Pool()
        pool.is_open = True
        yield pool
        pool.is_open = False

    router, bus = Router(), Bus(lifespan=lifespan)
    served(router)

    @router.subscriber(ORDERS, group="one").around(named)
    async def one(order: Order) -> None: ...

    bus.include(router)
    for _ in range(2):  # opened again, it is another one
        async with TestBus(bus) as test:
            await test.send(WORK, Order(order_id="1"))
            await test.publish(ORDERS, Order(order_id="1"))
            assert (await test.request(PRICES, Ask(sku="tea"))).cents == 3
            await test.settled()
    assert sorted(SEEN) == sorted(
        2 * ["work with the pool, open", "batch with the pool, transaction of the pool", "middleware of the pool"]
    )


@pytest.mark.parametrize(
    "value",
    [
        Resources(Pool(), Client()),
        Pair(Pool(), Client()),
        (Client(), BetterPool(), 5),
        {"pool": Pool(), "client": Client(), "other": None},
        {"one": (pool := Pool()), "the same": pool, "client": Client()},
    ],
)
async def test_several_are_told_apart_by_their_class(value: object) -> None:
    bus = Bus(lifespan=yielding(value))
    seen: list[tuple[str, str]] = []
    all_of_it = Depends(from_lifespan(type(value)))

    @bus.consumer(WORK)
    async def work(order: Order, pool: Shared, client: Annotated[str, Depends(quick)]) -> None:
        seen.append((pool.name, client))

    @bus.subscriber(ORDERS, group="whole")
    async def whole(order: Order, everything: Any = all_of_it) -> None:
        seen.append(("whole", type(everything).__name__))

    async with TestBus(bus) as test:
        await test.send(WORK, Order(order_id="1"))
        await test.publish(ORDERS, Order(order_id="1"))
        await test.settled()
    assert sorted(seen) == sorted([("the pool", "Client"), ("whole", type(value).__name__)])


@pytest.mark.parametrize(
    ("lifespan", "text"),
    [
        (None, "the lifespan yields nothing, none of that class"),
        (yielding(None), "the lifespan yields nothing, none of that class"),
        (yielding(Client()), "the lifespan yields Client, none of that class"),
        (yielding((Client(), "secret")), "the lifespan yields tuple of Client, str, none of that class"),
        (yielding((Pool(), BetterPool())), "the lifespan yields tuple of Pool, BetterPool, 2 of that class"),
        (yielding([Pool()]), "the lifespan yields list, none of that class"),
    ],
)
async def test_what_is_not_there_is_told_at_start(lifespan: Any, text: str) -> None:
    """In a dependency of a dependency too, and once it is closed nothing is left behind."""
    bus = Bus("memory://", lifespan=lifespan)

    @bus.consumer(WORK)
    async def work(order: Order, within: Annotated[str, Depends(transaction)]) -> None: ...

    with pytest.raises(RegistrationError) as refused:
        await bus.consuming().__aenter__()
    assert str(refused.value).startswith("queue work: handler test_what_is_not_there")
    assert str(refused.value).endswith(f"from_lifespan(Pool): {text}")
    async with bus:  # who only publishes needs none of it
        await bus.publish(ORDERS, Order(order_id="1"))


async def test_a_test_puts_another_one_in_its_place() -> None:
    """For a while, or from the start: then the lifespan needs to yield none."""
    SEEN.clear()
    bus = Bus(lifespan=yielding(Pool()))
    served(bus)
    async with TestBus(bus) as test:
        test.override(from_lifespan(Pool), lambda: Pool("a fake"))
        await test.send(WORK, Order(order_id="1"))
        await test.publish(ORDERS, Order(order_id="1"))
        await test.settled()
    other = Bus()

    @other.consumer(WORK)
    async def work(order: Order, within: Annotated[str, Depends(transaction)]) -> None:
        SEEN.append(within)

    other.dependencies.override(transaction, lambda: "no transaction")
    async with TestBus(other) as test:
        await test.send(WORK, Order(order_id="1"))
        await test.settled()
    assert sorted(SEEN) == ["batch with a fake, transaction of a fake", "no transaction", "work with a fake, closed"]


class Handling:
    """A handler that is an instance; `Depends(Named())` is evaluated as often as somebody reads the annotation."""

    async def __call__(self, order: Order, pool: Shared, name: Annotated[str, Depends(Named())]) -> None:
        SEEN.append(f"{pool.name}, {name}")


class HandlingInAThread:
    """The same, in a thread."""

    def __call__(self, order: Order, pool: Shared, name: Annotated[str, Depends(Named())]) -> None:
        SEEN.append(f"{pool.name}, {name}")


async def test_handlers_and_dependencies_may_be_instances() -> None:
    SEEN.clear()
    bus = Bus(lifespan=yielding(Pool()))
    bus.consumer(WORK)(Handling())
    bus.subscriber(ORDERS, group="g")(HandlingInAThread())

    @bus.subscriber(ORDERS, group="function")
    async def function(order: Order, name: Annotated[str, Depends(Named())], pool: Shared) -> None:
        SEEN.append(f"{pool.name}, {name}")

    async with TestBus(bus) as test:
        await test.send(WORK, Order(order_id="1"))
        await test.publish(ORDERS, Order(order_id="1"))
        await test.settled()
    assert SEEN == 3 * ["the pool, named"]


@pytest.mark.parametrize("odd", [Unit, Making()])
def test_a_dependency_that_could_not_be_resolved_is_refused(odd: Any) -> None:
    async def work(order: Order, unit: object = Depends(odd)) -> None: ...

    with pytest.raises(RegistrationError, match=r"has annotations as text .* so 'pool' can't be resolved"):
        Bus().consumer(WORK)(work)


async def test_two_buses_have_their_own() -> None:
    seen: list[str] = []
    buses = [Bus("memory://", lifespan=yielding(Pool(name))) for name in ("one", "two")]
    for bus in buses:

        @bus.consumer(WORK)
        async def work(order: Order, pool: Shared) -> None:
            seen.append(pool.name)
            if len(seen) == 2:
                done.set()

    done = asyncio.Event()
    async with buses[0].consuming(), buses[1].consuming():
        for bus in buses:
            await bus.send(WORK, Order(order_id="1"))
        await done.wait()
    assert sorted(seen) == ["one", "two"]


async def test_where_no_message_is_handled_it_says_so() -> None:
    with pytest.raises(BusError, match=r"from_lifespan\(Pool\) is for what handles a message"):
        await from_lifespan(Pool)()


@pytest.mark.parametrize("odd", [Blind, list[int], "Pool", Pool | Client, None])
def test_what_has_no_class_is_refused(odd: Any) -> None:
    with pytest.raises(RegistrationError, match=r"give it a class, or a Protocol that is @runtime_checkable"):
        from_lifespan(odd)


def test_what_is_asked_for_must_fit_its_parameter() -> None:
    async def work(order: Order, pool: Annotated[Client, Depends(from_lifespan(Pool))]) -> None: ...

    with pytest.raises(RegistrationError, match="parameter 'pool' is Client, its dependency gives Pool"):
        Bus().consumer(WORK)(work)
