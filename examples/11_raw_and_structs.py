"""What may be in a message: bytes, text, dataclasses, TypedDicts and msgspec Structs beside pydantic models.

How each is encoded and checked is decided once, when the topic is declared. msgspec is an extra: `msgbus[msgspec]`.
"""

import asyncio
from dataclasses import dataclass

import msgspec
from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

from msgbus import Bus, Queue


@dataclass
class Point:
    x: int
    y: int


class Row(TypedDict):
    name: str
    cells: list[int]


class Tick(msgspec.Struct):
    symbol: str
    cents: int


raw = Queue("raw", bytes)  # handed through as it is
texts = Queue("texts", str)
points = Queue("points", Point)
rows = Queue("rows", Row)
ticks = Queue("ticks", Tick)

bus = Bus()
handled: asyncio.Queue[str] = asyncio.Queue()


@bus.consumer(raw)
async def on_raw(body: bytes) -> None:
    handled.put_nowait(f"bytes {body!r}")


@bus.consumer(texts)
async def on_text(text: str) -> None:
    handled.put_nowait(f"text {text!r}")


@bus.consumer(points)
async def on_point(point: Point) -> None:
    handled.put_nowait(f"dataclass {point}")


@bus.consumer(rows)
async def on_row(row: Row) -> None:
    handled.put_nowait(f"TypedDict {row}")


@bus.consumer(ticks)
async def on_tick(tick: Tick) -> None:
    handled.put_nowait(f"Struct {tick}")


async def main() -> None:
    async with bus.consuming():
        await bus.send(raw, b"\x00\xff")
        await bus.send(texts, "Grüße")
        await bus.send(points, Point(x=1, y=2))
        await bus.send(rows, Row(name="a", cells=[1, 2]))
        await bus.send(ticks, Tick(symbol="TEA", cents=450))
        for line in sorted([await handled.get() for _ in range(5)]):
            print(line)


if __name__ == "__main__":
    asyncio.run(main())
