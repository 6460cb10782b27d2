"""Round trips on ministack, the same on both paths.

ministack is trusted with bodies, attributes and records here; it doesn't check signatures (test_signing does).
"""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.servers import Handle

from msgbus.brokers.aws import AwsClient, AwsSettings
from msgbus.errors import Refused

ATTRIBUTES: dict[str, dict[str, Any]] = {
    "kind": {"DataType": "String", "StringValue": "caf\u00e9 & <b> %2B +"},
    "raw": {"DataType": "Binary", "BinaryValue": bytes(range(256))},
}


@pytest.fixture(params=[True, False], ids=["fast", "slow"])
async def aws(request: pytest.FixtureRequest, ministack: Handle) -> AsyncIterator[AwsClient]:
    async with AwsClient(AwsSettings(endpoint=ministack.url, fast=request.param)) as client:
        yield client


@pytest.fixture
def name() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


async def test_sqs(aws: AwsClient, name: str) -> None:
    url = (await aws.call("sqs", "CreateQueue", {"QueueName": name}))["QueueUrl"]
    bodies = {str(number): f'{{"n": {number}, "text": "h\u00e9 \U0001f680 \\" \\\\"}}' for number in range(10)}
    entries = [{"Id": id_, "MessageBody": body, "MessageAttributes": ATTRIBUTES} for id_, body in bodies.items()]
    sent = await aws.call("sqs", "SendMessageBatch", {"QueueUrl": url, "Entries": entries})
    assert {entry["Id"] for entry in sent["Successful"]} == set(bodies)
    assert not sent.get("Failed")
    query = {"QueueUrl": url, "MaxNumberOfMessages": 10, "MessageAttributeNames": ["All"], "WaitTimeSeconds": 1}
    messages = (await aws.call("sqs", "ReceiveMessage", query))["Messages"]
    assert sorted(message["Body"] for message in messages) == sorted(bodies.values())
    for message in messages:
        got = message["MessageAttributes"]
        assert got["kind"]["StringValue"] == ATTRIBUTES["kind"]["StringValue"]
        assert got["raw"]["BinaryValue"] == ATTRIBUTES["raw"]["BinaryValue"]
    handles = [{"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(messages)]
    longer = [{**handle, "VisibilityTimeout": 60} for handle in handles]
    kept = await aws.call("sqs", "ChangeMessageVisibilityBatch", {"QueueUrl": url, "Entries": longer})
    assert len(kept["Successful"]) == 10
    gone = await aws.call("sqs", "DeleteMessageBatch", {"QueueUrl": url, "Entries": handles})
    assert len(gone["Successful"]) == 10
    empty = await aws.call("sqs", "ReceiveMessage", {"QueueUrl": url})
    assert not empty.get("Messages")


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp, of any body of 1 MiB
async def test_a_large_message(aws: AwsClient, name: str) -> None:
    url = (await aws.call("sqs", "CreateQueue", {"QueueName": name}))["QueueUrl"]
    body = "\u00e9" * 400_000
    await aws.call("sqs", "SendMessage", {"QueueUrl": url, "MessageBody": body})
    messages = (await aws.call("sqs", "ReceiveMessage", {"QueueUrl": url}))["Messages"]
    assert messages[0]["Body"] == body


async def test_a_queue_that_is_not_there(aws: AwsClient, name: str) -> None:
    url = f"{aws.settings.endpoint}/000000000000/{name}"
    with pytest.raises(Refused, match=f"{name} is not there"):
        await aws.call("sqs", "SendMessage", {"QueueUrl": url, "MessageBody": "a"})


async def test_sns_to_sqs(aws: AwsClient, name: str) -> None:
    topic = (await aws.call("sns", "CreateTopic", {"Name": name}))["TopicArn"]
    url = (await aws.call("sqs", "CreateQueue", {"QueueName": name}))["QueueUrl"]
    asked = {"QueueUrl": url, "AttributeNames": ["QueueArn"]}
    arn = (await aws.call("sqs", "GetQueueAttributes", asked))["Attributes"]["QueueArn"]
    raw = {"TopicArn": topic, "Protocol": "sqs", "Endpoint": arn, "Attributes": {"RawMessageDelivery": "true"}}
    await aws.call("sns", "Subscribe", raw)
    message = '{"text": "h\u00e9 \U0001f680 & %2B + = ; <x>"}'
    attributes = {"kind": ATTRIBUTES["kind"]}
    entries = [{"Id": str(n), "Message": message, "MessageAttributes": attributes} for n in range(3)]
    sent = await aws.call("sns", "PublishBatch", {"TopicArn": topic, "PublishBatchRequestEntries": entries})
    assert [entry["Id"] for entry in sent["Successful"]] == ["0", "1", "2"]
    assert sent["Failed"] == []
    assert (await aws.call("sns", "Publish", {"TopicArn": topic, "Message": message}))["MessageId"]
    query = {"QueueUrl": url, "MaxNumberOfMessages": 10, "MessageAttributeNames": ["All"]}
    messages = (await aws.call("sqs", "ReceiveMessage", query))["Messages"]
    assert [each["Body"] for each in messages] == [message] * 4
    assert messages[0]["MessageAttributes"]["kind"]["StringValue"] == ATTRIBUTES["kind"]["StringValue"]


async def test_a_topic_that_is_not_there(aws: AwsClient, name: str) -> None:
    topic = f"arn:aws:sns:eu-west-1:000000000000:{name}"
    with pytest.raises(Refused, match=f"{name} is not there"):
        await aws.call("sns", "Publish", {"TopicArn": topic, "Message": "a"})


async def test_kinesis(aws: AwsClient, name: str) -> None:
    await aws.call("kinesis", "CreateStream", {"StreamName": name, "ShardCount": 1})
    async with aws.client("kinesis") as cold:
        await cold.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
    data = [bytes(range(256)), b"", "h\u00e9".encode()]
    records = [{"Data": each, "PartitionKey": "k"} for each in data]
    put = await aws.call("kinesis", "PutRecords", {"StreamName": name, "Records": records})
    assert put["FailedRecordCount"] == 0
    where = {"StreamName": name, "ShardId": put["Records"][0]["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
    iterator = (await aws.call("kinesis", "GetShardIterator", where))["ShardIterator"]
    got = await aws.call("kinesis", "GetRecords", {"ShardIterator": iterator})
    assert [record["Data"] for record in got["Records"]] == data
    assert all(isinstance(record["ApproximateArrivalTimestamp"], float) for record in got["Records"])


async def test_eventbridge(aws: AwsClient) -> None:
    entry = {"Source": "shop", "DetailType": "OrderPlaced", "Detail": '{"a": "h\u00e9"}'}
    put = await aws.call("events", "PutEvents", {"Entries": [entry]})
    assert put["FailedEntryCount"] == 0
    assert put["Entries"][0]["EventId"]
