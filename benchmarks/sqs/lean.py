"""The raw twin on msgbus's own AWS client: what is left to reach for by a loop written by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.sqs.payload import REGION
from benchmarks.sqs.raw import Raw
from msgbus.brokers.aws import AwsClient, AwsSettings


class _Calls:
    """The methods of an aiobotocore client that the raw twin calls."""

    def __init__(self, client: AwsClient) -> None:
        self._client = client

    async def send_message(self, **params: Any) -> dict[str, Any]:
        return await self._client.call("sqs", "SendMessage", params)

    async def send_message_batch(self, **params: Any) -> dict[str, Any]:
        return await self._client.call("sqs", "SendMessageBatch", params)

    async def receive_message(self, **params: Any) -> dict[str, Any]:
        return await self._client.call("sqs", "ReceiveMessage", params)

    async def delete_message_batch(self, **params: Any) -> dict[str, Any]:
        return await self._client.call("sqs", "DeleteMessageBatch", params)


@asynccontextmanager
async def open_side(endpoint: str, queue: str) -> AsyncIterator[Raw]:
    async with AwsClient(AwsSettings(endpoint=endpoint, region=REGION)) as client:
        url = (await client.call("sqs", "GetQueueUrl", {"QueueName": queue}))["QueueUrl"]
        yield Raw(_Calls(client), url)
