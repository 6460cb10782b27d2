"""`kinesis://`: topics are Amazon Kinesis streams, groups share their shards by leases. Needs the extra `aws`."""

from msgbus.brokers.kinesis.broker import KinesisBroker
from msgbus.brokers.kinesis.sending import KinesisMessage

__all__ = ["KinesisBroker", "KinesisMessage"]
