"""`sqs://`: queues are Amazon SQS, topics are Amazon SNS with SQS subscriptions. Needs the extra `aws`."""

from msgbus.brokers.sqs.broker import SqsBroker
from msgbus.brokers.sqs.store import S3Store

__all__ = ["S3Store", "SqsBroker"]
