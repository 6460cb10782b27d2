"""An archive of a stream in S3, and replays from it. Event sourcing beyond what the stream itself keeps.

    archiver = Archiver(bus.link_for("orders").broker, Source("topic", "orders", "archive"), store)
    await archiver.run()

    async for record in replay(store, "orders", since=..., until=..., key="customer-7"): ...

Needs Kinesis: what is archived has a position in a shard.
"""

from msgbus.archive.archiver import Archiver
from msgbus.archive.record import Archived, Format
from msgbus.archive.replay import Resender, replay
from msgbus.archive.store import ArchiveStore, S3Archive

__all__ = ["ArchiveStore", "Archived", "Archiver", "Format", "Resender", "S3Archive", "replay"]
