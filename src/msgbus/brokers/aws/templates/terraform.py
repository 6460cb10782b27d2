"""A Terraform configuration of what is planned, in JSON, with the rights as a policy.

Source: "JSON Configuration Syntax" and "Strings and Templates" in the Terraform language documentation; the resources'
pages of hashicorp/aws.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from msgbus.brokers.aws.arns import Arn
from msgbus.brokers.aws.templates.naming import document, mapped, owner_of, resources_of, word_of
from msgbus.brokers.plan import Plan, Resource

_TYPES = {
    "SQS queue": "aws_sqs_queue",
    "SQS queue policy": "aws_sqs_queue_policy",
    "SNS topic": "aws_sns_topic",
    "SNS subscription": "aws_sns_topic_subscription",
    "Kinesis stream": "aws_kinesis_stream",
    "DynamoDB table": "aws_dynamodb_table",
}
_ARGUMENTS = {
    "VisibilityTimeout": "visibility_timeout_seconds",
    "MessageRetentionPeriod": "message_retention_seconds",
    "RedrivePolicy": "redrive_policy",
    "FifoQueue": "fifo_queue",
    "DeduplicationScope": "deduplication_scope",
    "FifoThroughputLimit": "fifo_throughput_limit",
    "Queue": "queue_url",
    "Policy": "policy",
    "FifoTopic": "fifo_topic",
    "ContentBasedDeduplication": "content_based_deduplication",
    "TopicArn": "topic_arn",
    "Protocol": "protocol",
    "Endpoint": "endpoint",
    "RawMessageDelivery": "raw_message_delivery",
    "FilterPolicy": "filter_policy",
    "FilterPolicyScope": "filter_policy_scope",
    "ShardCount": "shard_count",
    "MaxRecordSizeInKiB": "max_record_size_in_kib",
    "BillingMode": "billing_mode",
}
_TEXTS = ("RedrivePolicy", "Policy", "FilterPolicy")  # JSON in a text
_HERE = {
    "partition": "${data.aws_partition.current.partition}",
    "region": "${data.aws_region.current.id}",
    "account": "${data.aws_caller_identity.current.account_id}",
}
_NOTHING: dict[str, str] = {}
_DATA = {each: {"current": _NOTHING} for each in ("aws_partition", "aws_region", "aws_caller_identity")}


def terraform(plans: Sequence[Plan]) -> str:
    """A configuration: a file with the ending `.tf.json`."""
    resources = resources_of(plans)
    made: dict[str, dict[str, Any]] = {}
    for each in resources:
        made.setdefault(_TYPES[each.kind], {})[word_of(each)] = _arguments(each, resources)
    configuration: dict[str, Any] = {
        "terraform": {"required_providers": {"aws": {"source": "hashicorp/aws", "version": ">= 6.25"}}},
        "data": _DATA,
        "resource": made,
    }
    policy = _value(document(plans), resources)
    if policy["Statement"]:
        made["aws_iam_policy"] = {"rights": {"policy": json.dumps(policy)}}
        value = "${aws_iam_policy.rights.arn}"
        configuration["output"] = {"rights_arn": {"description": "The policy for the service's role.", "value": value}}
    return json.dumps(configuration, indent=2)


def _arguments(resource: Resource, others: Sequence[Resource]) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    if resource.kind not in ("SQS queue policy", "SNS subscription"):
        arguments["name"] = resource.name
    for name, value in resource.properties.items():
        arguments |= _argument(name, value, others)
    return arguments | ({"tags": _value(resource.tags, others)} if resource.tags else {})


def _argument(name: str, value: Any, others: Sequence[Resource]) -> dict[str, Any]:
    match name:
        case "Queue":  # of a policy, by its URL
            owner = owner_of(value, others)
            return {"queue_url": "" if owner is None else f"${{aws_sqs_queue.{word_of(owner)}.url}}"}
        case "StreamModeDetails":
            return {"stream_mode_details": {"stream_mode": value["StreamMode"]}}
        case "KeySchema":
            return {"hash_key": value[0]["AttributeName"]}
        case "AttributeDefinitions":
            return {"attribute": [{"name": one["AttributeName"], "type": one["AttributeType"]} for one in value]}
    found = _value(value, others)
    return {_ARGUMENTS[name]: json.dumps(found) if name in _TEXTS else found}


def _value(value: Any, others: Sequence[Resource]) -> Any:
    return mapped(value, _literal, partial(_arn, others))


def _literal(text: str) -> str:
    """A text that is no template."""
    return text.replace("${", "$${").replace("%{", "%%{")


def _arn(others: Sequence[Resource], arn: Arn) -> str:
    owner = owner_of(arn, others)
    if owner is not None:
        return f"${{{_TYPES[owner.kind]}.{word_of(owner)}.arn}}"
    region = _HERE["region"] if arn.region == "" else arn.region or ""
    account = _HERE["account"] if arn.account == "" else arn.account or ""
    return f"arn:{_HERE['partition']}:{arn.service}:{region}:{account}:{arn.resource}"
