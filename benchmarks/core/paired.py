"""What a change costs: the core of two checkouts in turn, round by round, as CPU ratios.

    git worktree add /tmp/before v0.1.0
    python -m benchmarks.core.paired /tmp/before      # that one against this one

Both sides run this checkout's benchmark on their own `src`, each in a process of its own that goes one round when it is
told to, so that a slow minute of the machine hits both.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.core import ours
from benchmarks.core.harness import Run, machine, one_round
from benchmarks.core.payloads import BIG, SMALL

ROOT = Path(__file__).parents[2]
CASES = {
    f"{mode}{', suspending' if suspends else ''}, {size} bytes": (mode, payload, suspends)
    for size, payload in ((49, SMALL), (426, BIG))
    for mode in ("many", "tasks", "one_by_one", "round_trip")
    for suspends in (False, True)
}


class Side:
    """One checkout's process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, tree: Path, count: int) -> Side:
        environment = os.environ | {"PYTHONPATH": f"{tree / 'src'}:{ROOT}"}
        command = [sys.executable, "-m", "benchmarks.core.paired", "--side", "--count", str(count)]
        pipe = asyncio.subprocess.PIPE
        return cls(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, env=environment))

    async def round(self, case: str) -> float:
        """CPU microseconds a message."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{case}\n".encode())
        return float(await process.stdout.readline())

    async def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


async def serve(count: int) -> None:
    """A side: one line in, one case; one line out, its CPU."""
    runs: dict[str, Run] = {}
    closing = AsyncExitStack()
    while name := (await asyncio.to_thread(sys.stdin.readline)).strip():
        mode, payload, suspends = CASES[name]
        if name not in runs:
            runs[name], close = await ours.case(mode, payload, suspending=suspends)()
            closing.push_async_callback(close)
            await runs[name](count)  # warm-up
        print(await one_round(runs[name], count), flush=True)
    await closing.aclose()


async def main(before: Path, rounds: int, count: int) -> None:
    print(machine())
    sides = [await Side.start(before, count), await Side.start(ROOT, count)]
    print(f"{'':36}{'before us':>10}{'after us':>10}{'ratio':>8}   median of {rounds} pairs, quartiles")
    for case in CASES:
        pairs = [[await side.round(case) for side in sides] for _ in range(rounds)]
        ratios = [after / earlier for earlier, after in pairs]
        low, middle, high = statistics.quantiles(ratios, n=4)
        earlier, after = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{case:36}{earlier:10.2f}{after:10.2f}{middle:8.3f}   {low:.3f} - {high:.3f}", flush=True)
    for side in sides:
        await side.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--count", type=int, default=3000, help="messages a round")
    parser.add_argument("--side", action="store_true", help="be one of the two processes")
    given = parser.parse_args()
    asyncio.run(serve(given.count) if given.side else main(given.before.resolve(), given.rounds, given.count))
