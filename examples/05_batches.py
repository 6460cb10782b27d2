"""A handler of many messages at once, as a bulk insert wants them.

It says which entries failed; only those come again.
"""

import asyncio
import logging
from collections.abc import Sequence

from pydantic import BaseModel

from msgbus import Batch, Bus, Failed, Queue, Retry


class Reading(BaseModel):
    sensor: str
    celsius: float


readings = Queue("readings", Reading)
bus = Bus()
stored: dict[str, float] = {}
sizes: list[int] = []
refused_once: set[str] = set()
done = asyncio.Event()


@bus.consumer(readings, batch=Batch(size=50, wait=0.05), retry=Retry(attempts=3, first_delay=0.01))
async def store(batch: list[Reading]) -> Sequence[Failed] | None:
    failed = [index for index, reading in enumerate(batch) if _is_refused(reading)]
    stored.update({r.sensor: r.celsius for index, r in enumerate(batch) if index not in failed})
    sizes.append(len(batch))
    if len(stored) == 120:
        done.set()
    return [Failed(index, ConnectionError("row locked")) for index in failed]


def _is_refused(reading: Reading) -> bool:
    """The store refuses two of the rows, once."""
    if reading.sensor not in ("s7", "s77") or reading.sensor in refused_once:
        return False
    refused_once.add(reading.sensor)
    return True


async def main() -> None:
    async with bus.consuming():
        await bus.publish_many(readings, [Reading(sensor=f"s{n}", celsius=20 + n / 10) for n in range(120)])
        await done.wait()
    print(f"stored {len(stored)} readings in {len(sizes)} batches of up to {max(sizes)}")
    print(f"{sum(sizes) - len(stored)} of them came twice")


if __name__ == "__main__":
    logging.getLogger("msgbus").setLevel(logging.CRITICAL)  # the failures above are on purpose
    asyncio.run(main())
