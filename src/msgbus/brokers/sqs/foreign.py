"""Attributes as other programs use them: binary ones, and those of Amazon's SQS Java Messaging Library. Sans-IO.

Source: "Working with JMS and Amazon SQS" in the developer guide, and the library's SQSMessage: its four attributes are
`JMS_SQSMessageType` (text, byte, object), `JMS_SQSCorrelationID`, `JMS_SQSReplyToQueueURL` and
`JMS_SQSReplyToQueueName`; a message's id is "ID:" and that of SQS; a BytesMessage has its bytes in base64.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from msgbus import headers as h
from msgbus.errors import DecodeError

TYPE = "JMS_SQSMessageType"
CORRELATION = "JMS_SQSCorrelationID"
REPLY_TO = "JMS_SQSReplyToQueueURL"


def binary(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Attributes of bytes as headers, in base64 as SNS writes them too; ours have none."""
    return {
        name: base64.b64encode(each["BinaryValue"]).decode()
        for name, each in attributes.items()
        if "BinaryValue" in each and not name.startswith(h.PACKED)
    }


def opened_jms(headers: dict[str, str], body: bytes, message_id: str) -> bytes:
    """The body of a JMS message; adds what its attributes say, under our names, to the headers.

    Raises DecodeError where bytes are no base64.
    """
    headers.setdefault(h.ID, f"ID:{message_id}")
    for theirs, ours in ((CORRELATION, h.CORRELATION), (REPLY_TO, h.REPLY_TO)):
        if theirs in headers:
            headers.setdefault(ours, headers[theirs])
    if headers[TYPE] != "byte":
        return body
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise DecodeError(f"a BytesMessage of JMS whose body is no base64: {error}") from error


def as_jms(request: object, headers: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The attributes that the reply to a JMS request has more; none for others. `headers`: of the reply."""
    asked = request.get("MessageAttributes") if isinstance(request, Mapping) else None
    if not asked or TYPE not in asked:
        return {}
    said = {TYPE: "text", CORRELATION: headers.get(h.CORRELATION, "")}
    return {name: {"DataType": "String", "StringValue": value} for name, value in said.items() if value}
