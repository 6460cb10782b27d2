"""Brokers that claim little, in the shared suite: what is not claimed is refused, held by the core or enveloped."""

import itertools

import pytest
from tests.slowness import slowness

from msgbus import brokers
from msgbus.testing.conformance import BrokerSuite, Harness

_names = itertools.count()


class LesserHarness(Harness):
    """A server of its own per test; leases never end."""

    patience = 5.0 * slowness()
    quiet = 0.06
    lease = 0.2 * slowness()
    delay = 0.15

    def __init__(self, scheme: str) -> None:
        self.url = f"{scheme}://lesser-{next(_names)}?lease=3600&max_bytes=65536&replay=1000"


class TestWorkQueue(BrokerSuite):
    @pytest.fixture
    def harness(self, monkeypatch: pytest.MonkeyPatch) -> Harness:
        monkeypatch.setitem(brokers.BUILT_IN, "work-queue", ("tests.conformance.lesser", "WorkQueue", ""))
        return LesserHarness("work-queue")


class TestStream(BrokerSuite):
    @pytest.fixture
    def harness(self, monkeypatch: pytest.MonkeyPatch) -> Harness:
        monkeypatch.setitem(brokers.BUILT_IN, "stream", ("tests.conformance.lesser", "Stream", ""))
        return LesserHarness("stream")
