"""What a service must be allowed to do on SQS and SNS, by what it does. Sans-IO.

Source: "Actions, resources, and condition keys" for SQS and SNS in the service authorization reference. SNS takes the
ARN of the topic for what is about a subscription; one that begins with it is allowed too, in case.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgbus.broker import Mode
from msgbus.brokers.aws.arns import Arn
from msgbus.brokers.plan import Right
from msgbus.brokers.sqs.names import REPLY_PREFIX

_RECEIVE = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility")
_FIND = ("sqs:GetQueueUrl",)
_LOOK = ("sqs:GetQueueAttributes",)
_SEND = ("sqs:SendMessage",)
_MAKE = ("sqs:CreateQueue", "sqs:TagQueue")
_CHANGE = ("sqs:SetQueueAttributes",)


def consume(queue: Arn, dead: Arn) -> list[Right]:
    """Handle what is in a queue, and write its dead letters."""
    return [
        Right("Consume", (*_FIND, *_LOOK, *_RECEIVE), (queue,)),
        Right("DeadLetters", (*_FIND, *_SEND), (dead,)),
    ]


def send(*queues: Arn) -> list[Right]:
    """Send to a queue; the first of them is it, and the others have names that are looked for too."""
    found = [Right("Send", (*_FIND, *_SEND), queues[:1])]
    return [*found, Right("Find", _FIND, queues[1:])] if queues[1:] else found


def publish(topic: Arn) -> list[Right]:
    """Publish to a topic, up to the size that it allows."""
    return [Right("Publish", ("sns:Publish", "sns:GetTopicAttributes"), (topic,))]


def ask(replies: Sequence[Arn], *, own: bool) -> list[Right]:
    """Receive replies: in queues that come and go with processes (`own`), or in one that is given."""
    receive = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", *_LOOK)
    if not own:
        return [Right("Replies", (*_FIND, *receive), tuple(replies))]
    care = (*_MAKE, "sqs:DeleteQueue", "sqs:ListQueueTags")
    return [Right("Replies", (*receive, *care), tuple(replies)), Right("SweepReplies", ("sqs:ListQueues",), ("*",))]


def answer(replies: Arn) -> list[Right]:
    """Send replies."""
    return [Right("Answer", _SEND, (replies,))]


def reply_queues(any_queue: Arn) -> Arn:
    """All reply inboxes; `any_queue`: of the place where they are."""
    return any_queue._replace(resource=f"{REPLY_PREFIX}*")


def queue(mode: Mode, name: Arn, dead: Arn) -> list[Right]:
    """See to it that a queue and its dead-letter queue are there."""
    if mode != "create":
        return []
    return [Right("MakeQueues", (*_MAKE, *_CHANGE), (name,)), Right("MakeDeadLetters", (*_MAKE, *_LOOK), (dead,))]


def topic(mode: Mode, name: Arn) -> list[Right]:
    """See to it that a topic is there."""
    found = [Right("LookAtTopics", ("sns:GetTopicAttributes",), (name,))]
    made = [Right("MakeTopics", ("sns:CreateTopic", "sns:TagResource"), (name,))]
    return [] if mode == "trust" else found + (made if mode == "create" else [])


def binding(mode: Mode, sender: Arn, name: Arn, dead: Arn) -> list[Right]:
    """See to it that a queue is subscribed to a topic, which may send to it and to its dead-letter queue."""
    if mode == "trust":
        return []
    subscriptions = (sender, sender._replace(resource=f"{sender.resource}:*"))
    found = [
        Right("LookAtTopics", ("sns:GetTopicAttributes",), (sender,)),
        Right("LookAtSubscriptions", ("sns:ListSubscriptionsByTopic",), (sender,)),
        Right("LookAtSubscription", ("sns:GetSubscriptionAttributes",), subscriptions),
        Right("LookAtDeadLetters", _LOOK, (dead,)),
    ]
    made = [
        Right("Subscribe", ("sns:Subscribe",), (sender,)),
        Right("ChangeSubscriptions", ("sns:SetSubscriptionAttributes",), subscriptions),
        Right("Permit", _CHANGE, (name, dead)),
    ]
    return found + (made if mode == "create" else [])
