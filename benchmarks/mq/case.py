"""One case in a process of its own: `python -m benchmarks.mq.case CLIENT WORK URL QUEUE COUNT`."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys


def main(client: str, work: str, url: str, queue_name: str, count: str) -> None:
    """Run it; it prints one line of JSON."""
    logging.disable(logging.WARNING)
    module = importlib.import_module(f"benchmarks.mq.{client}")
    run = getattr(module, work)(url, queue_name, int(count))
    if run is not None:  # kombu has no coroutines
        asyncio.run(run)


if __name__ == "__main__":
    main(*sys.argv[1:])
