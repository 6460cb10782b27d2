"""`kinesis://` in the shared suite, on ministack, with leases in its DynamoDB."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from tests import awsenv
from tests.servers import Handle, Proxy

from msgbus.testing.conformance import BrokerSuite, Harness


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keys and region of nobody."""
    awsenv.use(monkeypatch, tmp_path)


class KinesisHarness(Harness):
    """An emulator behind a proxy that can cut."""

    patience = 12.0
    quiet = 0.15
    lease = 0.3  # not the broker's: it renews its own
    delay = 0.2

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        endpoint = quote(proxy.url, safe="")
        self.url = f"kinesis://us-east-1?shards=1&lease=3&poll=0.02&reads=50&rate=0&checkpoint=0.2&endpoint={endpoint}"

    async def cut(self) -> None:
        self._proxy.cut()


class TestMinistack(BrokerSuite):
    @pytest.fixture
    async def harness(self, ministack: Handle) -> AsyncIterator[KinesisHarness]:
        async with Proxy(ministack.url) as proxy:
            yield KinesisHarness(proxy)
