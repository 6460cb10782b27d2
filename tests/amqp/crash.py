"""What a test must wait for before it kills a RabbitMQ."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.servers import Server


async def written(server: Server) -> None:
    """Until every quorum queue of a private RabbitMQ survives a kill.

    RabbitMQ 3.10 writes the name of a new quorum queue to `names.dets` a second after it confirmed the queue, and
    its messages. Killed in between, it comes back with a queue that never finds its leader.
    """
    for _ in range(100):
        if all(_is_written(place) for place in server.place.folder.glob("mnesia/*/quorum/*")):
            return
        await asyncio.sleep(0.1)  # a file that somebody else writes: nothing to await
    raise AssertionError("a quorum queue is not written after 10 s")


def _is_written(folder: Path) -> bool:
    names = (folder / "names.dets").read_bytes()
    return all(config.parent.name.encode() in names for config in folder.glob("*/config"))
