"""make bench-kinesis: what a record costs on Kinesis, sent and consumed.

Each side has a sending and a consuming process; the sides take turns, round by round, on one ministack, each on a
stream of 4 shards of its own. Measured is the CPU time of the side's own processes, per record of 1 KiB, without the
server's; msgbus's includes its leases and checkpoints in DynamoDB, which the others don't have. In all of them the
garbage collector leaves alone what was there at the start, as in `msgbus run`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import ExitStack

from tests.servers import server

from benchmarks.core.harness import machine
from benchmarks.kinesis.payload import REGION, SHARDS

SIDES = {
    "raw": "raw aiobotocore loops",
    "async_kinesis": "async-kinesis 3.0.1",
    "ours": "msgbus",
    "bare": "msgbus, bare=True",
    "ordered": "msgbus, ordered=True",
    "aggregated": "msgbus, aggregate=on",
    "raw_bytes": "raw aiobotocore, bytes alone",
    "seam": "msgbus broker, bytes alone",
}
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": REGION}
ENVIRONMENT["MSGBUS_PROVISION"] = "create"
GOALS = (("raw", "ours", 3.0), ("raw", "bare", 3.0), ("async_kinesis", "ours", 4.0), ("raw_bytes", "seam", 3.0))


class Worker:
    """One process of a side."""

    def __init__(self, name: str, work: str, endpoint: str, stream: str) -> None:
        command = [sys.executable, "-m", "benchmarks.kinesis.side", name, work, endpoint, stream]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answer()

    def tell(self, count: int) -> None:
        """Begin; it listens when this returns."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{count}\n")
        self._process.stdin.flush()
        self.answer()

    def answer(self) -> dict[str, float]:
        """What it says next."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process of a side has ended"
        figures: dict[str, float] = json.loads(line)
        return figures

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def create(endpoint: str, stream: str) -> None:
    """A stream of 4 shards."""
    code = (
        "import botocore.session as s;"
        f"s.get_session().create_client('kinesis', endpoint_url={endpoint!r}, region_name={REGION!r})"
        f".create_stream(StreamName={stream!r}, ShardCount={SHARDS})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def run(arguments: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Samples by side and work."""
    samples: dict[str, dict[str, list[float]]] = {side: defaultdict(list) for side in arguments.sides}
    with server("ministack") as handle:
        for turn in range(arguments.rounds):
            for side in arguments.sides:
                _turn(side, handle.url, f"bench-{side}-{turn}", arguments.count, samples[side])
    return samples


def _turn(side: str, endpoint: str, stream: str, count: int, samples: dict[str, list[float]]) -> None:
    """New processes on a new stream, warmed up, so that nobody else polls meanwhile."""
    create(endpoint, stream)
    with ExitStack() as stack:
        sender, consumer = (Worker(side, work, endpoint, stream) for work in ("send", "consume"))
        stack.callback(sender.close)
        stack.callback(consumer.close)
        _one(sender, consumer, count // 4, defaultdict(list))
        _one(sender, consumer, count, samples)


def _one(sender: Worker, consumer: Worker, count: int, samples: dict[str, list[float]]) -> None:
    consumer.tell(count)
    sender.tell(count)
    sent, consumed = sender.answer(), consumer.answer()
    samples["send"].append(sent["cpu"])
    samples["consume"].append(consumed["cpu"])
    samples["rate"].append(consumed["rate"])


def report(samples: dict[str, dict[str, list[float]]]) -> None:
    """Medians, quartiles and ratios."""
    print(f"\n{'us of CPU a record':28} {'send':>22} {'consume':>22} {'both':>9} {'records/s':>10}")
    both: dict[str, tuple[float, float]] = {}
    for side, works in samples.items():
        send, consume = statistics.median(works["send"]), statistics.median(works["consume"])
        both[side] = (send, consume)
        cells = [f"{statistics.median(works[work]):8.1f} {_spread(works[work]):>13}" for work in ("send", "consume")]
        print(f"{SIDES[side]:28} {cells[0]} {cells[1]} {send + consume:9.1f} {statistics.median(works['rate']):10,.0f}")
    for side, mine, goal in GOALS:
        if side in both and mine in both:
            send, consume = (both[side][i] / both[mine][i] for i in (0, 1))
            figures = f"send {send:.1f}, consume {consume:.1f}, both {sum(both[side]) / sum(both[mine]):.1f}"
            print(f"{SIDES[side]}: {figures} times as dear as {SIDES[mine]} (goal {goal:g})")


def _spread(values: list[float]) -> str:
    if len(values) < 2:
        return ""
    low, _, high = statistics.quantiles(values, n=4)
    return f"({low:.1f}-{high:.1f})"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=20_000, help="records of a round")
    arguments = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    print(machine(), f"load {os.getloadavg()[0]:.2f}", time.strftime("%F %T"), sep=" | ")
    report(run(arguments))


if __name__ == "__main__":
    main()
