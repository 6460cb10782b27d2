"""Brokers that claim little, in the shared suite: what is not claimed is refused, held by the core or enveloped."""

import itertools
from typing import ClassVar

import pytest
from tests.slowness import slowness

from msgbus.message import Outgoing
from msgbus.testing.conformance import BrokerSuite, Harness
from msgbus.testing.conformance.lesser import Stream, WorkQueue

_names = itertools.count()


class LesserHarness(Harness):
    """A server of its own per test; leases never end."""

    brokers: ClassVar = {"work-queue": WorkQueue, "stream": Stream}
    patience = 5.0 * slowness()
    quiet = 0.06
    lease = 0.2 * slowness()
    delay = 0.15

    def __init__(self, scheme: str) -> None:
        self.url = f"{scheme}://lesser-{next(_names)}?lease=3600&max_bytes=65536&replay=1000"

    def spoil(self, out: Outgoing) -> None:
        out.body = b"no text: \xff"


class TestWorkQueue(BrokerSuite):
    @pytest.fixture
    def harness(self) -> Harness:
        return LesserHarness("work-queue")


class TestStream(BrokerSuite):
    @pytest.fixture
    def harness(self) -> Harness:
        return LesserHarness("stream")
