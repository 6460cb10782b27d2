"""A template deployed on ministack, and a proxy that lets pass what a policy allows and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.aws.templates import allows
from tests.faults.http import Call, FaultyHttp, answer, passed

from msgbus.brokers.aws import AwsClient

REGION, ACCOUNT = "us-east-1", "000000000000"
"""Of the emulators."""


async def deploy(client: AwsClient, name: str, template: str) -> None:
    """Make a stack of it."""
    async with client.client("cloudformation") as cold:
        await cold.create_stack(StackName=name, TemplateBody=template, Capabilities=["CAPABILITY_IAM"])
        while True:
            (stack,) = (await cold.describe_stacks(StackName=name))["Stacks"]
            if not stack["StackStatus"].endswith("IN_PROGRESS"):
                break
            await asyncio.sleep(0.05)
    assert stack["StackStatus"] == "CREATE_COMPLETE", stack


def resolved(template: Mapping[str, Any], value: Any) -> Any:
    """A value of a template as it is once deployed here."""
    match value:
        case {"Ref": word} | {"Fn::GetAtt": [word, "Arn"]}:
            resource = template["Resources"][word]
            service = resource["Type"].split("::")[1].lower()
            properties = resource["Properties"]
            return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{properties.get('QueueName') or properties['TopicName']}"
        case {"Fn::Sub": text}:
            here = {"Partition": "aws", "Region": REGION, "AccountId": ACCOUNT}
            for name, there in here.items():
                text = text.replace(f"${{AWS::{name}}}", there)
            return text
        case dict():
            return {name: resolved(template, each) for name, each in value.items()}
        case list():
            return [resolved(template, each) for each in value]
    return value


class Guard:
    """An endpoint that refuses what the policy does not allow. `used`: the actions that were allowed and done."""

    def __init__(self, target: str, policy: Mapping[str, Any]) -> None:
        self.proxy = FaultyHttp(target, self._meet)
        self.used: set[str] = set()
        self.refused: list[str] = []
        self._policy = policy
        self._iterators: dict[str, str] = {}

    @property
    def granted(self) -> set[str]:
        """All actions of the policy."""
        return {action for statement in self._policy["Statement"] for action in statement["Action"]}

    async def _meet(self, call: Call) -> bytes | None:
        action, arns = self._asked(call)
        if action == "sts:GetCallerIdentity":  # allowed to everyone
            return await passed(call)
        if not all(allows(self._policy, action, arn) for arn in arns):
            self.refused.append(f"{action} on {arns}")
            return _denied(call, action)
        self.used.add(action)
        status, body = await call.forward()
        if action == "kinesis:GetShardIterator":
            self._iterators[json.loads(body)["ShardIterator"]] = arns[0]
        if action == "kinesis:GetRecords" and (following := json.loads(body).get("NextShardIterator")):
            self._iterators[following] = arns[0]
        return answer(status, body)

    def _asked(self, call: Call) -> tuple[str, Sequence[str]]:
        """The action, and the ARNs that it is about; "*" where it is about none."""
        if call.operation:
            return self._of_json(call)
        form = dict(parse_qsl(call.body.decode())) if b"x-www-form-urlencoded" in call.head.lower() else {}
        if action := form.get("Action"):
            service = "sts" if action == "GetCallerIdentity" else "sns"
            place = form.get("TopicArn") or form.get("ResourceArn") or form.get("SubscriptionArn")
            name = {"PublishBatch": "Publish"}.get(action, action)
            return f"{service}:{name}", [place or f"arn:aws:sns:{REGION}:{ACCOUNT}:{form.get('Name')}"]
        method, path, _ = call.head.decode("latin-1").split(" ", 2)
        name = {"PUT": "PutObject", "GET": "GetObject", "DELETE": "DeleteObject", "HEAD": "ListBucket"}[method]
        return f"s3:{name}", [f"arn:aws:s3:::{unquote(urlsplit(path).path[1:])}"]

    def _of_json(self, call: Call) -> tuple[str, Sequence[str]]:
        target = next(line for line in call.head.decode("latin-1").split("\r\n") if "x-amz-target" in line.lower())
        service = {"AmazonSQS": "sqs", "Kinesis_20131202": "kinesis", "DynamoDB_20120810": "dynamodb"}[
            target.partition(":")[2].strip().partition(".")[0]
        ]
        params, name = call.params, call.operation
        if service == "sqs":
            queue = params.get("QueueName") or params.get("QueueUrl", "").rpartition("/")[2]
            place = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}" if queue else "*"
            return f"sqs:{name.removesuffix('Batch')}", [place]
        if service == "dynamodb":
            return f"dynamodb:{name}", [f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{params['TableName']}"]
        if stream := params.get("StreamName"):
            return f"kinesis:{name}", [f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{stream}"]
        iterator = params.get("ShardIterator", "")
        return f"kinesis:{name}", [self._iterators.get(iterator, "*")]


def _denied(call: Call, action: str) -> bytes:
    text = f"not authorized to perform: {action}"
    if call.operation:
        return answer(400, json.dumps({"__type": "AccessDeniedException", "message": text}).encode())
    error = f"<Error><Code>AccessDenied</Code><Message>{text}</Message></Error>"
    if action.startswith("sns:"):
        error = f"<ErrorResponse>{error}</ErrorResponse>"
    return answer(403, error.encode(), content_type="text/xml")
