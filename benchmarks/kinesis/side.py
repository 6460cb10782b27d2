"""One side's process, told what to do on its standard input.

python -m benchmarks.kinesis.side SIDE send|consume ENDPOINT STREAM
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import sys
import time
from typing import Any

from msgbus.cli.service import set_aside

_CLASSES = {
    "raw": ("raw", "Side"),
    "async_kinesis": ("async_kinesis", "Side"),
    "ours": ("ours", "Side"),
    "bare": ("ours", "Bare"),
    "ordered": ("ours", "Ordered"),
    "aggregated": ("ours", "Aggregated"),
    "raw_bytes": ("raw", "Bytes"),
    "seam": ("seam", "Side"),
}


class Count:
    """Ends a round when so many were handled."""

    def __init__(self) -> None:
        self.left = 0
        self.done = asyncio.Event()

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.done.set()


async def _round(side: Any, work: str, count: int, counter: Count) -> dict[str, float]:
    cpu, wall = time.process_time(), time.perf_counter()
    if work == "send":
        await side.send(count)
    else:
        await counter.done.wait()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"cpu": cpu / count * 1e6, "rate": count / wall}


async def main(name: str, work: str, endpoint: str, stream: str) -> None:
    """Until stdin ends."""
    module, class_name = _CLASSES[name]
    side = getattr(importlib.import_module(f"benchmarks.kinesis.{module}"), class_name)(endpoint, stream)
    counter = Count()
    await side.open(work)
    side.listen(counter)
    set_aside()  # as `msgbus run` does, for every side alike
    print(json.dumps({}), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        count = int(line)
        counter.left, counter.done = counter.left + count, asyncio.Event()
        print(json.dumps({}), flush=True)  # listening
        print(json.dumps(await _round(side, work, count, counter)), flush=True)
    await side.close()


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    asyncio.run(main(*sys.argv[1:]))
