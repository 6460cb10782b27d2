"""FastAPI: an endpoint publishes, the same process handles messages, and tests need no server.

    pip install 'msgbus[uvloop]' fastapi uvicorn httpx
    uvicorn --app-dir examples 16_fastapi:app

Run it as it is, or with `pytest examples/16_fastapi.py`. docs/how-to/fastapi.md has the reasons.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from msgbus import Bus, BusError, RemoteError, Router, Rpc, Topic
from msgbus.testing import TestBus

# -- the service


class Order(BaseModel):
    order_id: str
    sku: str


class Ask(BaseModel):
    sku: str


class Price(BaseModel):
    cents: int


orders = Topic("orders", Order)
prices = Rpc("prices", Ask, Price)
bus = Bus()
confirmed: asyncio.Queue[str] = asyncio.Queue()


@bus.subscriber(orders, group="confirmation")
async def confirm(order: Order) -> None:
    confirmed.put_nowait(order.order_id)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """`bus.consuming()` runs the handlers in this process; a service that only publishes says `async with bus:`."""
    async with bus.consuming():
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/orders", status_code=202)
async def place(order: Order) -> dict[str, str]:
    receipt = await bus.publish(orders, order)  # returns when the broker has it: an answer of 202 is a promise
    return {"id": receipt.id}


@app.get("/prices/{sku}")
async def price(sku: str) -> Price:
    return await bus.request(prices, Ask(sku=sku), timeout=2.0)


@app.exception_handler(RemoteError)
async def other_side_failed(request: Request, error: RemoteError) -> JSONResponse:
    """Whoever answers `prices` raised."""
    return JSONResponse({"error": error.detail}, status_code=502)


@app.exception_handler(BusError)
async def bus_failed(request: Request, error: BusError) -> JSONResponse:
    """No broker, no answer in time: it may work later. What it says is for the log, not for strangers."""
    logging.getLogger("shop").warning("%s: %s", request.url.path, error)
    return JSONResponse({"error": "try again later"}, status_code=503, headers={"Retry-After": "5"})


@app.get("/ready")
async def ready(response: Response) -> dict[str, object]:
    health = bus.health()
    response.status_code = 200 if health.ready else 503
    return {"ready": health.ready, "problems": health.problems}


# -- its tests


catalogue = Router()  # plays the service that answers `prices`


@catalogue.responder(prices)
async def answer(ask: Ask) -> Price:
    if ask.sku != "tea":
        raise LookupError(f"no {ask.sku} here")
    return Price(cents=450)


def client() -> httpx.AsyncClient:
    """Calls the app in this process. It leaves the lifespan out: here TestBus opens the bus."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")


async def test_an_order_is_published_and_confirmed() -> None:
    async with TestBus(bus) as test, client() as http:
        done = await http.post("/orders", json={"order_id": "1", "sku": "tea"})
        await test.settled()

        assert done.status_code == 202
        assert test.handled(confirm) == [Order(order_id="1", sku="tea")]


async def test_the_lifespan_runs_too() -> None:
    """Where the app's own lifespan is tested, it shares the consumers of TestBus: no message is handled twice."""
    async with TestBus(bus) as test, app.router.lifespan_context(app), client() as http:
        await http.post("/orders", json={"order_id": "1", "sku": "tea"})
        await test.settled()

        assert test.handled(confirm) == [Order(order_id="1", sku="tea")]
        assert len(test.attempts(confirm)) == 1


async def test_prices_are_asked_for() -> None:
    async with TestBus(bus, peers=catalogue), client() as http:
        assert (await http.get("/prices/tea")).json() == {"cents": 450}
        assert (await http.get("/prices/salt")).status_code == 502


async def test_nobody_answers() -> None:
    """No responder has made its queue yet: Refused, a BusError as Timeout is."""
    async with TestBus(bus), client() as http:
        done = await http.get("/prices/tea")
        assert (done.status_code, done.headers["Retry-After"]) == (503, "5")


async def test_it_is_ready_while_the_bus_is_open() -> None:
    async with client() as http:
        assert (await http.get("/ready")).status_code == 503
        async with TestBus(bus):
            assert (await http.get("/ready")).status_code == 200


async def main() -> None:
    """As uvicorn runs it, with the lifespan."""
    async with app.router.lifespan_context(app), client() as http:
        for order_id in ("1", "2"):
            done = await http.post("/orders", json={"order_id": order_id, "sku": "tea"})
            print(f"{done.status_code}, confirmed {await confirmed.get()}")
        print((await http.get("/ready")).json())


if __name__ == "__main__":
    asyncio.run(main())
