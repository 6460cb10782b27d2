"""A message as a raw client writes it, and how it looks to a raw client afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.slowness import slowness

from msgbus.brokers.aws import AwsClient, AwsSettings
from msgbus.brokers.sqs.names import queue_name
from msgbus.message import Source

BODY = '{"number": 7,  "said": "\u00fc"}'
ATTRIBUTES: Mapping[str, dict[str, Any]] = {
    "kind": {"DataType": "String", "StringValue": "new"},
    "json": {"DataType": "String.json", "StringValue": '{"a": 1}'},
    "count": {"DataType": "Number", "StringValue": "7"},
    "cents": {"DataType": "Number.int", "StringValue": "990"},
    "picture": {"DataType": "Binary.png", "BinaryValue": b"\x89PNG\xff\x00"},
}


async def put(endpoint: str, source: Source) -> Mapping[str, object]:
    """Send it; what a copy must keep."""
    async with AwsClient(AwsSettings(region="us-east-1", endpoint=endpoint)) as client:
        params = {"QueueUrl": await _url(client, source), "MessageBody": BODY, "MessageAttributes": ATTRIBUTES}
        await client.call("sqs", "SendMessage", params)
    return {"body": BODY, **ATTRIBUTES}


async def take(endpoint: str, place: Source) -> Mapping[str, object]:
    """Take the one message that is there."""
    async with AwsClient(AwsSettings(region="us-east-1", endpoint=endpoint)) as client:
        url = await _url(client, place)
        params = {"QueueUrl": url, "WaitTimeSeconds": 5, "MessageAttributeNames": ["All"]}
        for _ in range(round(6 * slowness())):
            found = (await client.call("sqs", "ReceiveMessage", params)).get("Messages") or []
            if found:
                break
        (message,) = found
        await client.call("sqs", "DeleteMessage", {"QueueUrl": url, "ReceiptHandle": message["ReceiptHandle"]})
    parts = ("DataType", "StringValue", "BinaryValue")
    attributes = {
        name: {part: each[part] for part in parts if part in each}
        for name, each in message["MessageAttributes"].items()
    }
    return {"body": message["Body"], **attributes}


async def _url(client: AwsClient, place: Source) -> str:
    name = queue_name(place.address, ordered=place.ordered)
    return str((await client.call("sqs", "GetQueueUrl", {"QueueName": name}))["QueueUrl"])
