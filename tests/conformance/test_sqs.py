"""`sqs://` in the shared suite, on two emulators.

Where they differ from the service, or from each other, the service's own documents decide: see each `wrong`.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import pytest
from tests.servers import Handle, Proxy
from tests.servers.fixtures import fauxqs, ministack, server_pool
from tests.slowness import slowness
from tests.sqs import foreign, odd

from msgbus.brokers.aws import AwsClient, AwsSettings
from msgbus.brokers.sqs.names import queue_name
from msgbus.message import Source
from msgbus.testing.conformance import BrokerSuite, Harness

__all__ = ["fauxqs", "ministack", "server_pool"]


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keys and region of nobody."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIDTEST",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)


class SqsHarness(Harness):
    """An emulator behind a proxy that can cut."""

    patience = 12.0 * slowness()
    quiet = 0.3
    lease = float(round(slowness()))  # of whole seconds
    delay = 1.0
    retry_copies = False  # the service shows the same message again
    purges_in_flight = True

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self.url = f"sqs://us-east-1?wait=1&endpoint={quote(proxy.url, safe='')}"

    def outage(self) -> AbstractAsyncContextManager[None]:
        return self._proxy.outage()

    async def remove(self, source: Source) -> None:
        async with AwsClient(AwsSettings(region="us-east-1", endpoint=self._proxy.url)) as client:
            name = queue_name(source.address, ordered=source.ordered)
            url = (await client.call("sqs", "GetQueueUrl", {"QueueName": name}))["QueueUrl"]
            await client.call("sqs", "DeleteQueue", {"QueueUrl": url})

    async def cut(self) -> None:
        self._proxy.cut()

    async def put_odd(self, source: Source) -> int:
        return await odd.put(self._proxy.url, source)

    async def put_foreign(self, source: Source) -> Mapping[str, object]:
        return await foreign.put(self._proxy.url, source)

    async def take_foreign(self, place: Source) -> Mapping[str, object]:
        return await foreign.take(self._proxy.url, place)


class FauxqsHarness(SqsHarness):
    wrong: ClassVar = {"test_a_body_arrives_byte_for_byte[text]": "fauxqs refuses characters above U+FFFF"}


class MinistackHarness(SqsHarness):
    wrong: ClassVar = {}


class TestFauxqs(BrokerSuite):
    @pytest.fixture
    async def harness(self, fauxqs: Handle) -> AsyncIterator[SqsHarness]:
        async with Proxy(fauxqs.url) as proxy:
            yield FauxqsHarness(proxy)


class TestMinistack(BrokerSuite):
    @pytest.fixture
    async def harness(self, ministack: Handle) -> AsyncIterator[SqsHarness]:
        async with Proxy(ministack.url) as proxy:
            yield MinistackHarness(proxy)
