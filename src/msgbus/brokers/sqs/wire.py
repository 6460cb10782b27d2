"""Messages as SQS and SNS carry them, both ways. Sans-IO.

Sources: SendMessageBatch, ReceiveMessage and PublishBatch in the API references; "Amazon SQS message metadata" for
what attributes may hold. A body is text of 1 character at least; an attribute has a value; ten attributes at most.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from msgbus import headers as h
from msgbus.brokers.sqs.envelopes import opened
from msgbus.brokers.sqs.foreign import TYPE, binary, opened_jms
from msgbus.brokers.sqs.names import sized_id
from msgbus.errors import BusError, DecodeError, Refused, shown
from msgbus.message import Delivery, Outgoing, Source

ATTRIBUTES = 10
"""How many a message may have: with more, SNS drops it on the way to a raw SQS subscription."""

EMPTY = "\u2400"
"""Stands for an empty body, which SQS has not: the character "symbol for null" alone. A body that is it is base64."""

_EMPTY = EMPTY.encode()

POINTER = b'["software.amazon.payloadoffloading.PayloadS3Pointer"'
OLD_POINTER = b'["com.amazon.sqs.javamessaging.MessageS3Pointer"'
SIZE_ATTRIBUTE = "ExtendedPayloadSize"
"""How a body in S3 is told, by the Amazon SQS Extended Client Library: in this form, or in the older one."""

TYPE_BYTES = ATTRIBUTES * len("String")
"""What AWS counts beside names and values."""

_REFUSED_CHARACTER = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_CONTROLS = bytes(byte for byte in range(0x20) if byte not in b"\t\n\r")
_NO_CHARACTERS = b"\xef\xbf"  # how U+FFFE and U+FFFF begin
_NAME = re.compile(r"(?!(?:aws|amazon)\.)(?!.*\.\.)(?!\.)[A-Za-z0-9_.-]{1,256}(?<!\.)", re.IGNORECASE)


def text_of(out: Outgoing) -> str:
    """The body as text. Raises Refused where it is none: the envelope makes text of what isn't declared to be it."""
    body = out.body
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise Refused(f"{out.address}: the body is declared as text and is not UTF-8: {error}") from error
    if len(body.translate(None, _CONTROLS)) != len(body) or (
        _NO_CHARACTERS in body and _REFUSED_CHARACTER.search(text) is not None
    ):
        raise Refused(f"{out.address}: the body has characters that SQS and SNS refuse: declare it as bytes")
    if text == EMPTY:
        return base64.b64encode(body).decode()
    return text or EMPTY


@lru_cache(maxsize=1024)
def is_name(name: str) -> bool:
    """Whether an attribute may have it."""
    return _NAME.fullmatch(name) is not None


def attributes_of(out: Outgoing) -> tuple[dict[str, Any], int]:
    """The headers as attributes, and the bytes of their names and values; AWS counts their types too.

    What an attribute can't hold (nothing, control characters), and one that can't be named so, goes into the packed
    header with the others. Raises Refused where there are too many.
    """
    attributes: dict[str, Any] = {}
    odd: dict[str, str] = {}
    size = 0
    if out.body == _EMPTY:
        odd[h.ENCODING] = "base64"  # as `text_of` writes it: alone it would be nothing
    for name, value in out.headers.items():
        if not (value and is_name(name) and (value.isprintable() or _REFUSED_CHARACTER.search(value) is None)):
            odd[name] = value
            continue
        attributes[name] = {"DataType": "String", "StringValue": value}
        size += len(name) + (len(value) if value.isascii() else len(value.encode()))
    if odd:
        size += _pack(attributes, odd)
    if len(attributes) > ATTRIBUTES:
        raise Refused(f"{out.address}: {len(attributes)} headers are to be attributes, of which there are {ATTRIBUTES}")
    if out.body.startswith((POINTER, OLD_POINTER)):
        size += _tell_size(attributes)
    return attributes, size


def _pack(attributes: dict[str, Any], more: Mapping[str, str]) -> int:
    """Add to the packed header; by how many bytes that grew the attributes."""
    before = attributes.get(h.PACKED, {}).get("StringValue")
    packed = json.dumps({**(json.loads(before) if before else {}), **more}, separators=(",", ":"))
    attributes[h.PACKED] = {"DataType": "String", "StringValue": packed}
    return len(packed) - len(before) if before else len(packed) + len(h.PACKED)


def _tell_size(attributes: dict[str, Any]) -> int:
    """Amazon's client knows a body in S3 by this attribute, so it must not stay in the packed header."""
    packed = attributes.get(h.PACKED, {}).get("StringValue", "{}")
    size = json.loads(packed).get(SIZE_ATTRIBUTE)
    if size is None or len(attributes) >= ATTRIBUTES:
        return 0
    attributes[SIZE_ATTRIBUTE] = {"DataType": "Number", "StringValue": size}
    return len(SIZE_ATTRIBUTE) + len(size)


def ordering(out: Outgoing, *, fifo: bool, fair: bool) -> dict[str, Any]:
    """Group and deduplication ids. Raises Refused where order is kept and there is no key to keep it by."""
    if not fifo:
        return {"MessageGroupId": sized_id(out.key)} if fair and out.key else {}
    if not out.key:
        raise Refused(f"{out.address}: keeps order by key, and this message has none; give key=")
    return {"MessageGroupId": sized_id(out.key), "MessageDeduplicationId": sized_id(out.dedup_id or out.id)}


class Token:
    """The handle of one delivery: who may use it, and until when on the bus's clock. `buried`: its dead letter is
    written.
    """

    __slots__ = ("buried", "ends", "handle", "id", "owner")

    def __init__(self, owner: object, message: Mapping[str, Any], ends: float) -> None:
        self.owner: object | None = owner  # None: settled
        self.handle: str = message["ReceiptHandle"]
        self.id: str = message["MessageId"]
        self.ends = ends
        self.buried = False


def delivery_of(
    message: Mapping[str, Any], source: Source, token: Token, attempt: int | None, unwrap: bool
) -> Delivery:
    """A received message. `attempt`: None takes the count of receives. What can't be read is told in `fault`."""
    try:
        system = message.get("Attributes") or {}
        received = max(1, int(system.get("ApproximateReceiveCount", 1)))
        given = message.get("MessageAttributes") or {}
        headers = {name: attribute["StringValue"] for name, attribute in given.items() if "StringValue" in attribute}
        if len(headers) != len(given):
            headers |= binary(given)
        group = system.get("MessageGroupId")
        "".join((*headers.values(), "" if group is None else group))  # raises where one is no text
        body: str = message["Body"]
        if unwrap and body[:1] == "{" and (not headers or (len(headers) == 1 and h.PACKED in headers)):
            body, headers = _unwrapped(body, headers)
        content = b"" if body == EMPTY else body.encode()
        if TYPE in headers:
            content = opened_jms(headers, content, token.id)
        sent = system.get("SentTimestamp")
        return Delivery(
            content,
            source,
            headers,
            token,
            received if attempt is None else attempt,
            received,
            group if source.ordered else None,
            None if sent is None else int(sent) / 1000,
            message,
        )
    except Exception as error:
        return _damaged(message, source, token, attempt, error)


def _unwrapped(body: str, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Of an envelope that has been dead, the packed header says so; one that says it is ours has no other around it."""
    packed = headers.get(h.PACKED, "{}")
    if f'"{h.SPEC}"' in packed:
        return body, headers
    inner, theirs = opened(body)
    if not headers or not theirs:
        return inner, theirs or headers
    both = {**json.loads(theirs.pop(h.PACKED, "{}")), **json.loads(packed)}
    return inner, {**theirs, h.PACKED: json.dumps(both)}


def _damaged(
    message: Mapping[str, Any], source: Source, token: Token, attempt: int | None, error: Exception
) -> Delivery:
    """With what can be read of it: it is buried, and must not harm those that came with it."""
    fault = error if isinstance(error, BusError) else DecodeError(f"an odd message of SQS: {shown(error)}")
    body = message.get("Body")
    system = _mapping(message.get("Attributes"))
    given = _mapping(message.get("MessageAttributes")).items()
    group = system.get("MessageGroupId")
    values = {name: _mapping(attribute).get("StringValue") for name, attribute in given}
    return Delivery(
        body.encode(errors="backslashreplace") if isinstance(body, str) else b"",
        source,
        {name: value for name, value in values.items() if isinstance(value, str)},
        token,
        attempt or 1,
        lane=group if source.ordered and isinstance(group, str) else None,
        raw=message,
        fault=fault,
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
