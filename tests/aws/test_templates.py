"""What is written for CloudFormation, Terraform and IAM, of everything that can be declared on AWS."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from tests.aws.templates import cloudformation_faults, right_faults, terraform_faults

from msgbus.broker import Mode
from msgbus.brokers import broker_for
from msgbus.brokers.aws.templates import FORMATS
from msgbus.brokers.plan import Plan, Plans, Use
from msgbus.brokers.sqs import S3Store
from msgbus.clock import SystemClock
from msgbus.errors import ConfigError
from msgbus.handlers.topology import parts_of
from msgbus.message import Source

HERE = "account=123456789012"
GROUP = Source("topic", "orders", "billing")
FIFO = Source("topic", "line", "billing", ordered=True)
FILTERED = Source("topic", "news", "eu", filter=(("region", ("eu", "${x}")),))
FIELDS = Source("topic", "prices", "eu", fields=(("cents", (1, None, True, "a")),))
WORK = Source("queue", "work")
SQS = [
    *(Use("consume", each, tuple(parts_of(each, 25, 45.0))) for each in (GROUP, FIFO, FILTERED, FIELDS, WORK)),
    Use("answer", Source("queue", "quotes"), tuple(parts_of(Source("queue", "quotes")))),
    Use("publish", Source("topic", "paid"), tuple(parts_of(Source("topic", "paid", "x"))[:1])),
    Use("send", Source("queue", "later", ordered=True)),
    Use("request", Source("queue", "stock")),
]
STREAM = [
    Use("consume", GROUP, tuple(parts_of(GROUP))),
    Use("publish", Source("topic", "paid"), tuple(parts_of(Source("topic", "paid", "x"))[:1])),
]
KINESIS = [
    "kinesis://eu-west-1",
    "kinesis://eu-west-1?shards=2&record_bytes=2097152&fanout=on&table_prefix=leases-",
    "kinesis://eu-west-1?leases=memory&rate=0&failure=s3://bucket/prefix",
    "kinesis://eu-west-1?failure=arn:aws:sqs:eu-west-1:123456789012:buried",
    "kinesis://eu-west-1?failure=arn:aws:sns:eu-west-1:123456789012:buried",
]
KEY = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
PLACES = "&at.paid=arn:aws:sns:eu-west-1:210987654321:sales&at.work=arn:aws:sqs:eu-west-1:210987654321:theirs"


def plan(url: str, uses: Sequence[Use], mode: Mode = "create") -> Plan:
    broker = broker_for(url, SystemClock())
    assert isinstance(broker, Plans)
    return broker.plan(uses, mode)


@pytest.fixture(autouse=True)
def _account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCOUNT_ID", "123456789012")


CASES = [
    (f"sqs://eu-west-1?{HERE}", SQS),
    ("sqs://", SQS),
    (f"sqs://eu-west-1?reply_queue=replies{PLACES}", SQS),
    *((url, STREAM) for url in KINESIS),
]


@pytest.mark.parametrize(("url", "uses"), CASES)
def test_each_format_is_valid(url: str, uses: list[Use], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    plans = with_store(url, uses, "create")
    assert cloudformation_faults(FORMATS["cloudformation"](plans)) == []
    assert terraform_faults(FORMATS["terraform"](plans)) == []


@pytest.mark.parametrize("mode", ["create", "verify", "trust"])
@pytest.mark.parametrize(("url", "uses"), CASES)
def test_rights_are_about_what_their_actions_are(
    url: str, uses: list[Use], mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert right_faults(json.loads(FORMATS["iam"](with_store(url, uses, mode)))) == []


def with_store(url: str, uses: list[Use], mode: Mode) -> list[Plan]:
    store = S3Store("bodies", prefix="p/", trusted=["theirs"], put_options={"SSEKMSKeyId": KEY})
    return [plan(url, uses, mode), store.plan(uses, mode)]


def test_both_tools_get_the_same_resources_and_the_same_policy() -> None:
    plans = [plan(f"sqs://eu-west-1?{HERE}", SQS), plan("kinesis://eu-west-1", STREAM)]
    template = json.loads(FORMATS["cloudformation"](plans))["Resources"]
    configuration = json.loads(FORMATS["terraform"](plans))["resource"]
    policy = json.loads(configuration.pop("aws_iam_policy")["rights"]["policy"])
    assert {name for named in configuration.values() for name in named} == template.keys() - {"Rights"}
    ours = template["Rights"]["Properties"]["PolicyDocument"]["Statement"]
    sids = [each["Sid"] for each in ours]
    assert sids == [each["Sid"] for each in policy["Statement"]]
    assert len(sids) == len(set(sids)), "IAM refuses a policy in which two statements have one name"


def test_what_is_written_of_text_is_text() -> None:
    configuration = json.loads(FORMATS["terraform"]([plan("sqs://", SQS)]))
    subscriptions = configuration["resource"]["aws_sns_topic_subscription"].values()
    policies = [one.get("filter_policy") for one in subscriptions]
    assert '{"region": ["eu", "$${x}", {"exists": false}]}' in policies


def test_rights_grow_with_what_a_service_does_itself() -> None:
    found = [plan(f"sqs://eu-west-1?{HERE}", SQS, mode) for mode in ("trust", "verify", "create")]
    trust, verify, create = ({action for right in each.rights for action in right.actions} for each in found)
    assert trust < verify < create
    assert not [each for each in verify - {"sqs:CreateQueue", "sqs:TagQueue"} if "Create" in each or "Set" in each]
    only = plan(f"sqs://eu-west-1?{HERE}", [each for each in SQS if each.role != "request"], "verify")
    assert not [action for right in only.rights for action in right.actions if "Create" in action]


def test_what_is_given_is_not_made() -> None:
    template = json.loads(FORMATS["cloudformation"]([plan(f"sqs://eu-west-1?{HERE}{PLACES}", SQS)]))
    made = json.dumps(template["Resources"])
    assert '"QueueName": "theirs"' not in made
    assert '"TopicName": "sales"' not in made
    assert "${AWS::Partition}:sns:eu-west-1:210987654321:sales" in made  # and may be published to


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"AWS_ACCOUNT_ID": "123456789012"}, "have the region in them, and nothing says it; set AWS_DEFAULT_REGION"),
        ({"AWS_DEFAULT_REGION": "eu-west-1"}, "have the account in them, and nothing says it; set AWS_ACCOUNT_ID"),
    ],
)
def test_a_policy_is_about_somewhere(environment: dict[str, str], text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCOUNT_ID", "AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=text):
        FORMATS["iam"]([plan("sqs://", SQS)])


def test_queues_are_refused_on_kinesis() -> None:
    with pytest.raises(ConfigError, match="queue work: Kinesis has streams for topics alone; route it"):
        plan("kinesis://", [Use("send", WORK)])


# -- the checks themselves


def test_the_checks_find_what_is_wrong() -> None:
    plans = [plan(f"sqs://eu-west-1?{HERE}", SQS)]
    template, configuration = (FORMATS[name](plans) for name in ("cloudformation", "terraform"))
    assert cloudformation_faults(template.replace("MessageRetentionPeriod", "MessageRetention"))
    assert cloudformation_faults(template.replace("sqs:ReceiveMessage", "sqs:ReceiveMessages"))
    assert terraform_faults(configuration.replace("redrive_policy", "redrive_polizy"))
    assert terraform_faults(configuration.replace('"fifo_queue": true', '"fifo_queue": "yes"'))
    assert terraform_faults(configuration.replace(".arn}", ".arm}"))
    policy = json.loads(FORMATS["iam"](plans).replace("sns:Publish", "sns:Send"))
    assert right_faults(policy)
    assert right_faults({"Statement": [{"Action": ["sqs:ListQueues"], "Resource": ["arn:aws:sqs:eu-west-1:1:x"]}]})
    assert right_faults({"Statement": [{"Action": ["sqs:SendMessage"], "Resource": ["arn:aws:sns:eu-west-1:1:x"]}]})
