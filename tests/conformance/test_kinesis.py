"""`kinesis://` in the shared suite, on ministack, with leases in its DynamoDB.

And what several shards could change, order and the bus, on kinesis-local with streams of two.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import quote

import pytest
from tests import awsenv
from tests.kinesis import odd
from tests.servers import Handle, Proxy
from tests.slowness import slowness

from msgbus.brokers.aws import AwsClient, AwsSettings
from msgbus.message import Source
from msgbus.testing.conformance import BrokerSuite, Harness
from msgbus.testing.conformance.order import OrderTests
from msgbus.testing.conformance.service import BusTests


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keys and region of nobody."""
    awsenv.use(monkeypatch, tmp_path)


URL = f"kinesis://us-east-1?lease={round(5 * slowness())}&poll=0.02&reads=50&rate=0&checkpoint=0.2"


class KinesisHarness(Harness):
    """An emulator behind a proxy that can cut."""

    patience = 12.0 * slowness()
    quiet = 0.15
    lease = 0.3 * slowness()  # not the broker's: it renews its own
    delay = 0.2
    purges_in_flight = True  # the group goes on behind it
    counts_crashes = False

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self.url = f"{URL}&shards=1&endpoint={quote(proxy.url, safe='')}"

    def outage(self) -> AbstractAsyncContextManager[None]:
        return self._proxy.outage()

    async def remove(self, source: Source) -> None:
        async with AwsClient(AwsSettings(region="us-east-1", endpoint=self._proxy.url)) as client:
            await client.call("kinesis", "DeleteStream", {"StreamName": source.name})

    async def cut(self) -> None:
        self._proxy.cut()

    async def put_odd(self, source: Source) -> int:
        return await odd.put(self._proxy.url, source)


class TestMinistack(BrokerSuite):
    @pytest.fixture
    async def harness(self, ministack: Handle) -> AsyncIterator[KinesisHarness]:
        async with Proxy(ministack.url) as proxy:
            yield KinesisHarness(proxy)


class TwoShardsHarness(Harness):
    """Streams on one emulator, leases and dead letters on the other."""

    patience = 15.0 * slowness()
    quiet = 0.2
    lease = 0.3 * slowness()
    delay = 0.2
    url = f"{URL}&shards=2"


class TestKinesisLocal(OrderTests, BusTests):
    @pytest.fixture
    def harness(self, kinesis_local: Handle, ministack: Handle, monkeypatch: pytest.MonkeyPatch) -> Harness:
        monkeypatch.setenv("AWS_ENDPOINT_URL", ministack.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", kinesis_local.url)
        return TwoShardsHarness()
