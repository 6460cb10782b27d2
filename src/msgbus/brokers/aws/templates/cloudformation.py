"""A CloudFormation template of what is planned, with the rights as a managed policy.

Source: the resource types' pages in the CloudFormation template reference. Properties are called as in the calls that
create the resources, but for what is written here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from msgbus.brokers.aws.arns import Arn
from msgbus.brokers.aws.templates.naming import document, mapped, owner_of, resources_of, word_of
from msgbus.brokers.plan import Plan, Resource

_TYPES = {
    "SQS queue": ("AWS::SQS::Queue", "QueueName"),
    "SQS queue policy": ("AWS::SQS::QueuePolicy", ""),
    "SNS topic": ("AWS::SNS::Topic", "TopicName"),
    "SNS subscription": ("AWS::SNS::Subscription", ""),
    "Kinesis stream": ("AWS::Kinesis::Stream", "Name"),
    "DynamoDB table": ("AWS::DynamoDB::Table", "TableName"),
}
_KEPT = ("SQS queue", "Kinesis stream", "DynamoDB table")  # what holds messages or positions outlives its stack


def cloudformation(plans: Sequence[Plan]) -> str:
    """A template in JSON."""
    resources = resources_of(plans)
    made = {word_of(each): _resource(each, resources) for each in resources}
    template: dict[str, Any] = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "What a service needs, as its declarations say.",
        "Resources": made,
    }
    policy = _value(document(plans), resources)
    if policy["Statement"]:
        made["Rights"] = {"Type": "AWS::IAM::ManagedPolicy", "Properties": {"PolicyDocument": policy}}
        output = {"Description": "The policy for the service's role.", "Value": {"Ref": "Rights"}}
        template["Outputs"] = {"RightsArn": output}
    return json.dumps(template, indent=2)


def _resource(resource: Resource, others: Sequence[Resource]) -> dict[str, Any]:
    type_, name = _TYPES[resource.kind]
    properties = dict(resource.properties)
    if resource.kind == "SQS queue policy":
        properties = {"Queues": [{"Ref": _word(properties["Queue"], others)}], "PolicyDocument": properties["Policy"]}
    if name:
        properties = {name: resource.name, **properties}
    if resource.tags:
        properties["Tags"] = [{"Key": key, "Value": value} for key, value in resource.tags.items()]
    made: dict[str, Any] = {"Type": type_, "Properties": _value(properties, others)}
    if resource.kind in _KEPT:
        made |= {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
    return made


def _word(arn: Arn, others: Sequence[Resource]) -> str:
    owner = owner_of(arn, others)
    return "" if owner is None else word_of(owner)


def _value(value: Any, others: Sequence[Resource]) -> Any:
    return mapped(value, str, partial(_arn, others))


def _arn(others: Sequence[Resource], arn: Arn) -> Mapping[str, Any] | str:
    owner = owner_of(arn, others)
    if owner is not None:
        word = word_of(owner)
        return {"Ref": word} if owner.kind == "SNS topic" else {"Fn::GetAtt": [word, "Arn"]}
    region = "${AWS::Region}" if arn.region == "" else arn.region or ""
    account = "${AWS::AccountId}" if arn.account == "" else arn.account or ""
    return {"Fn::Sub": f"arn:${{AWS::Partition}}:{arn.service}:{region}:{account}:{arn.resource}"}
