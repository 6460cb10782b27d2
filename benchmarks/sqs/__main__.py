"""make bench-sqs: what a message costs on SQS, beside the loops that people write by hand.

One run against one emulator at a time. Each side is a process of its own, warmed up; they take turns round by round.
A round of a side: send `count` messages, consume them, send and consume as many at once, then send some one by one
with time between. Measured is the side's own CPU time, without the server's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import boto3
from tests.servers import Handle, server

from benchmarks.core.harness import machine
from benchmarks.sqs.payload import REGION
from benchmarks.sqs.report import Samples, print_goals, print_table

SIDES = {
    "raw": "raw aiobotocore loop",
    "threads": "boto3 in threads",
    "taskiq_sqs": "taskiq-aio-sqs",
    "lean": "raw loop on msgbus's client",
    "ours": "msgbus",
}
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": REGION}
ENVIRONMENT["AWS_EC2_METADATA_DISABLED"] = "true"


class Worker:
    """The process of one side."""

    def __init__(self, name: str, endpoint: str) -> None:
        command = [sys.executable, "-m", "benchmarks.sqs.side", name, endpoint, f"bench-{name}"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def tell(self, work: str, count: int) -> dict[str, float]:
        """Have it do something; its figures."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{work} {count}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process of a side has ended"
        figures: dict[str, float] = json.loads(line)
        return figures

    def close(self) -> None:
        self._process.communicate()


def server_cpu(handle: Handle) -> float:
    """Seconds of CPU that the server's process has used; 0.0 where it is not ours."""
    process = getattr(handle, "process", None)
    if process is None:
        return 0.0
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def workers(endpoint: str, names: list[str]) -> Iterator[dict[str, Worker]]:
    """A process per side, each with a queue of its own."""
    sqs = boto3.client("sqs", endpoint_url=endpoint, region_name=REGION)
    with ExitStack() as stack:
        opened = {}
        for name in names:
            sqs.create_queue(QueueName=f"bench-{name}")
            opened[name] = Worker(name, endpoint)
            stack.callback(opened[name].close)
        yield opened


def one_round(worker: Worker, samples: Samples, handle: Handle, count: int, singles: int) -> None:
    """Everything once."""
    sent = worker.tell("send", count)
    before = server_cpu(handle)
    consumed = worker.tell("consume", count)
    consumed["server"] = (server_cpu(handle) - before) / count * 1e6
    samples.add("send", sent)
    samples.add("consume", consumed)
    samples.add("total", {"cpu": sent["cpu"] + consumed["cpu"]})
    samples.add("flow", worker.tell("flow", count))
    samples.add("latency", worker.tell("latency", singles))


def compare(name: str, arguments: argparse.Namespace) -> None:
    """All sides on one server."""
    samples = {side: Samples(SIDES[side]) for side in arguments.sides}
    with server(name) as handle, workers(handle.url, arguments.sides) as opened:
        for side, worker in opened.items():  # warm-up
            one_round(worker, Samples(side), handle, arguments.count // 2, 10)
        for _ in range(arguments.rounds):
            for side, worker in opened.items():
                one_round(worker, samples[side], handle, arguments.count, arguments.singles)
    print_table(name, samples)
    if {"raw", "ours"} <= samples.keys():
        print_goals(samples["raw"], samples["ours"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", nargs="+", default=["fauxqs", "ministack"], choices=["fauxqs", "ministack"])
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=2000, help="messages of a round")
    parser.add_argument("--waiting", type=int, default=100_000, help="messages of the memory check")
    parser.add_argument("--singles", type=int, default=60, help="messages one by one, for latencies")
    arguments = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    print(machine())
    load = os.getloadavg()[0]
    print(
        f"medians of {arguments.rounds} rounds of {arguments.count} messages of 1 KiB; load of the machine {load:.1f}"
    )
    for name in arguments.servers:
        compare(name, arguments)
    with server("fauxqs") as handle, workers(handle.url, ["ours"]) as opened:
        grown = opened["ours"].tell("memory", arguments.waiting)
    early, late = grown["early"], grown["late"]
    print(f"\n{arguments.waiting:,} messages waiting: {early:.0f} MiB after a tenth, {late:.0f} MiB after all")


if __name__ == "__main__":
    main()
