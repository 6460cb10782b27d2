"""Queue policies: exactly that topic may send, and nobody else's statement is touched."""

import json

from msgbus.brokers.sqs.policy import allowed, with_permission

QUEUE = "arn:aws:sqs:eu-west-1:123456789012:orders--billing"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:orders"
OTHER = {"Sid": "theirs", "Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sqs:*", "Resource": QUEUE}


def test_the_statement_lets_that_topic_send_and_nothing_else() -> None:
    (statement,) = json.loads(with_permission("", QUEUE, TOPIC))["Statement"]
    assert statement["Effect"] == "Allow"
    assert statement["Principal"] == {"Service": "sns.amazonaws.com"}
    assert statement["Action"] == "sqs:SendMessage"
    assert statement["Resource"] == QUEUE
    assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": TOPIC}}


def test_it_is_recognized() -> None:
    policy = with_permission("", QUEUE, TOPIC)
    assert allowed(policy, QUEUE, TOPIC)
    assert not allowed(policy, QUEUE, TOPIC + "2")
    assert not allowed(policy, QUEUE + "2", TOPIC)
    assert not allowed("", QUEUE, TOPIC)


def test_other_statements_stay() -> None:
    theirs = json.dumps({"Version": "2008-10-17", "Id": "mine", "Statement": OTHER})
    both = json.loads(with_permission(with_permission(theirs, QUEUE, TOPIC), QUEUE, TOPIC + "2"))
    assert both["Id"] == "mine"
    assert both["Statement"][0] == OTHER
    assert len(both["Statement"]) == 3


def test_twice_is_once() -> None:
    once = with_permission("", QUEUE, TOPIC)
    assert json.loads(with_permission(once, QUEUE, TOPIC)) == json.loads(once)


def test_a_damaged_statement_of_ours_is_replaced() -> None:
    damaged = with_permission("", QUEUE, TOPIC).replace("Allow", "Deny")
    assert not allowed(damaged, QUEUE, TOPIC)
    repaired = with_permission(damaged, QUEUE, TOPIC)
    assert allowed(repaired, QUEUE, TOPIC)
    assert len(json.loads(repaired)["Statement"]) == 1
