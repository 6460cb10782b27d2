"""What operators write: URLs and settings. A mistake is a ConfigError that shows no password."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

from tests.fuzz import target as fuzzed

from msgbus.brokers.amqp import settings as amqp
from msgbus.brokers.hiding import parts_of, scrub, shown
from msgbus.brokers.kinesis import options as kinesis
from msgbus.brokers.mq.target import Target
from msgbus.brokers.sqs import options as sqs
from msgbus.brokers.stomp import settings as stomp
from msgbus.config import load_settings

_URLS = (
    *(b"amqps://u:p%40ss@h1:5671,[::1]:5672/v?timeout=5&ca=/etc/ca.pem", b"amqp://localhost", b"stomp://u:p@h:61613/v"),
    *(b"sqs://eu-west-1?account=123456789012&at.orders=arn:aws:sqs:eu-west-1:123456789012:orders&wait=5&fair=on",),
    *(b"kinesis://eu-west-1?start=latest&leases=dynamodb", b"stomp+ssl://h?cert=a&key=b&max_bytes=5"),
)
_NAMES = ("ROUTES", "REPLIES", "CONCURRENCY", "GRACE", "PROVISION", "PREFIX")
_PARSERS: dict[str, Callable[[str], Target[Any]]] = {
    "amqp": amqp.parse,
    "amqps": amqp.parse,
    "stomp": stomp.parse,
    "stomp+ssl": stomp.parse,
}


def _url(data: bytes) -> None:
    url = data.decode("utf-8", "replace")
    shown(url)
    scrub(url)
    scheme = parts_of(url).scheme
    if scheme in _PARSERS:
        target = _PARSERS[scheme](url)
        str(target)
        if target.options.ca or target.options.cert:
            target.context()
    elif scheme == "sqs":
        sqs.parse_url(url)
    elif scheme == "kinesis":
        kinesis.parse_url(url)


def _settings(data: bytes) -> None:
    text = data.decode("utf-8", "replace").replace("\0", "")
    name = _NAMES[len(data) % len(_NAMES)]
    with mock.patch.dict("os.environ", {f"MSGBUS_{name}": text}):
        load_settings()


TARGETS = (
    fuzzed.Target(name="urls", run=_url, seeds=_URLS, room=8 << 20),
    fuzzed.Target(
        name="settings",
        run=_settings,
        seeds=[b'{"orders":"kinesis://u"}   ', b'["*"]  ', b"50", b"create    "[:10], b"5.0"],
    ),
)
