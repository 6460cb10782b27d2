"""Calls: a typed answer, the responder's error, and a deadline."""

import asyncio
import logging

from pydantic import BaseModel

from msgbus import Bus, RemoteError, Rpc, Timeout


class QuoteRequest(BaseModel):
    sku: str
    pieces: int = 1


class Quote(BaseModel):
    sku: str
    cents: int


class UnknownSku(Exception):
    pass


quotes = Rpc("quotes", QuoteRequest, Quote)
bus = Bus()
PRICES = {"tea": 450, "coffee": 620, "gold": 99_999}


@bus.responder(quotes)
async def quote(request: QuoteRequest) -> Quote:
    if request.sku not in PRICES:
        raise UnknownSku(f"no {request.sku} here")
    if request.sku == "gold":
        await asyncio.sleep(0.5)  # longer than anybody below waits
    return Quote(sku=request.sku, cents=PRICES[request.sku] * request.pieces)


async def main() -> None:
    async with bus.consuming():
        tea, coffee = await asyncio.gather(  # many calls at once share one reply inbox
            bus.request(quotes, QuoteRequest(sku="tea", pieces=2)),
            bus.request(quotes, QuoteRequest(sku="coffee")),
        )
        print(f"tea {tea.cents}, coffee {coffee.cents}")
        try:
            await bus.request(quotes, QuoteRequest(sku="salt"))
        except RemoteError as error:  # class and text of what the responder raised, never its traceback
            print(f"failed: {error.type}: {error.detail}")
        try:
            await bus.request(quotes, QuoteRequest(sku="gold"), timeout=0.1)
        except Timeout as error:  # its reply comes too late, and is dropped
            print(f"late: {error}")


if __name__ == "__main__":
    logging.getLogger("msgbus").setLevel(logging.CRITICAL)  # the failures above are on purpose
    asyncio.run(main())
