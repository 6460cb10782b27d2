"""`python -m tests.chaos --seconds 60 --seed 1`: the outbox under faults, with real servers and processes."""

from __future__ import annotations

import argparse
import asyncio
import sys

from tests.chaos.rig import Rig
from tests.servers import private_server


async def _main(seconds: float, seed: int) -> None:
    postgres, rabbitmq = private_server("postgres"), private_server("rabbitmq")
    try:
        postgres.start()
        rabbitmq.start()
        async with Rig.open(postgres, rabbitmq, seed) as rig:
            await rig.stormy(seconds)
            sys.stdout.write(f"seed {seed}: {await rig.judge()}\n")
    finally:
        postgres.close()
        rabbitmq.close()


def main() -> None:
    """Fails with an AssertionError that says what was lost, or came that should not have."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1, help="decides the faults, not what the machine makes of them")
    arguments = parser.parse_args()
    asyncio.run(_main(arguments.seconds, arguments.seed))


if __name__ == "__main__":
    main()
