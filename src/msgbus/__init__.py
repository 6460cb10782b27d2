"""Typed asynchronous messaging for Python services, with pluggable brokers.

Importing this loads no broker client and no optional package.
"""

from fast_depends import Depends

from msgbus.bus import Bus
from msgbus.codecs.avro.codec import Avro
from msgbus.codecs.avro.deriving import avro_schema
from msgbus.codecs.avro.members import AvroField
from msgbus.codecs.json import Json
from msgbus.config import Settings
from msgbus.consuming.counts import BusStats, LinkStats, SubscriptionStats
from msgbus.consuming.health import Health
from msgbus.envelope.claim import BodyStore, DirectoryStore
from msgbus.errors import (
    BusError,
    ConfigError,
    DecodeError,
    Disconnected,
    LeaseLost,
    PublishFailed,
    ReceiverClosed,
    Refused,
    RegistrationError,
    Reject,
    RemoteError,
    RetryLater,
    Throttled,
    Timeout,
    Unavailable,
)
from msgbus.handlers.lifespan import from_lifespan
from msgbus.handlers.middleware import ConsumeMiddleware, Handle
from msgbus.handlers.threads import from_thread
from msgbus.message import Delivery, Message, Outgoing, Receipt, Start
from msgbus.options import Batch, Breaker, Failed, Lease, Limits, Retry, Select, SendOptions
from msgbus.publishing.middleware import PublishMiddleware, SendNext
from msgbus.router import Router
from msgbus.topic import Queue, Rpc, Topic

__all__ = [
    "Avro",
    "AvroField",
    "Batch",
    "BodyStore",
    "Breaker",
    "Bus",
    "BusError",
    "BusStats",
    "ConfigError",
    "ConsumeMiddleware",
    "DecodeError",
    "Delivery",
    "Depends",
    "DirectoryStore",
    "Disconnected",
    "Failed",
    "Handle",
    "Health",
    "Json",
    "Lease",
    "LeaseLost",
    "Limits",
    "LinkStats",
    "Message",
    "Outgoing",
    "PublishFailed",
    "PublishMiddleware",
    "Queue",
    "Receipt",
    "ReceiverClosed",
    "Refused",
    "RegistrationError",
    "Reject",
    "RemoteError",
    "Retry",
    "RetryLater",
    "Router",
    "Rpc",
    "Select",
    "SendNext",
    "SendOptions",
    "Settings",
    "Start",
    "SubscriptionStats",
    "Throttled",
    "Timeout",
    "Topic",
    "Unavailable",
    "avro_schema",
    "from_lifespan",
    "from_thread",
]
