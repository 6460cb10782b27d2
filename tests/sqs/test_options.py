"""The URL: options, defaults, and errors that say what is allowed."""

import pytest

from msgbus.brokers.sqs.names import Place
from msgbus.brokers.sqs.options import SqsOptions, parse_url
from msgbus.errors import ConfigError
from msgbus.message import Address


def test_defaults() -> None:
    settings, options = parse_url("sqs://")
    assert options == SqsOptions()
    assert settings.region is None


def test_everything() -> None:
    settings, options = parse_url(
        "sqs://eu-west-1?account=123456789012&wait=20&polls=3&fair=off&unwrap=0&reply_queue=mine&timeout=5&fast=no".replace(
            "fast=no", "fast=off"
        )
    )
    assert (settings.region, settings.timeout, settings.fast) == ("eu-west-1", 5.0, False)
    assert options == SqsOptions(account="123456789012", wait=20, polls=3, fair=False, unwrap=False, reply_queue="mine")


def test_the_region_may_be_an_option() -> None:
    assert parse_url("sqs://?region=eu-north-1")[0].region == "eu-north-1"


def test_places() -> None:
    queue, topic = "arn:aws:sqs:eu-west-1:210987654321:jobs", "arn:aws:sns:eu-west-1:210987654321:sales"
    _, options = parse_url(f"sqs://eu-west-1?at.work={queue}&at.orders={topic}&at.orders/billing={queue}")
    assert options.places == {
        Address("queue", "work"): Place("sqs", "eu-west-1", "210987654321", "jobs"),
        Address("topic", "orders"): Place("sns", "eu-west-1", "210987654321", "sales"),
        Address("topic", "orders", "billing"): Place("sqs", "eu-west-1", "210987654321", "jobs"),
    }


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqs://r?at.work=jobs", "at.work: 'jobs' is no ARN of a queue or topic: expected arn:aws:sqs:REGION"),
        ("sqs://r?at.a/b=arn:aws:sns:r:123456789012:a", "at.QUEUE or at.TOPIC/GROUP=ARN of sqs"),
        ("sqs://r?at.=arn:aws:sns:r:123456789012:a", "expected at.TOPIC=ARN of sns"),
        ("sqs://r?account=12", "account='12': an AWS account has 12 digits"),
        ("sqs://r?wait=0", "wait='0': a whole number from 1 to 20"),
        ("sqs://r?wait=21", "from 1 to 20"),
        ("sqs://r?wait=2.5", "from 1 to 20"),
        ("sqs://r?polls=65", "from 1 to 64"),
        ("sqs://r?polls=\u00b2", "from 1 to 64"),
        ("sqs://r?fair=perhaps", "fair='perhaps': allowed are 1, true, on, 0, false, off"),
        ("sqs://r?colour=red", "unknown option 'colour': allowed are account, wait, .*at.NAME, region, profile"),
        ("sqs://r/queue", "expected sqs://\\[REGION\\]"),
        ("sqs://key:secret@r", "keys come from the AWS chain"),
    ],
)
def test_what_is_wrong_is_said(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        parse_url(url)
    assert "secret" not in str(raised.value)
