"""Text as Java writes it."""

import pytest

from msgbus.brokers.stomp.codec import Decoder, Frame
from msgbus.brokers.stomp.modified import modified, plain
from msgbus.brokers.stomp.properties import read

JAVA = b"\xed\xa0\xbd\xed\xb8\x80"  # what DataOutputStream.writeUTF makes of U+1F600


@pytest.mark.parametrize(
    ("text", "java"),
    [("a", b"a"), ("\U0001f600", JAVA), ("a\0b", b"a\xc0\x80b"), ("한é", "한é".encode()), ("", b"")],
)
def test_both_ways(text: str, java: bytes) -> None:
    assert modified(text.encode()) == java
    assert plain(java) == text.encode()


@pytest.mark.parametrize("odd", [b"\xed\xa0\xbd", b"\xff\xed", b"\xed\xb8\x80\xed\xa0\xbd"])
def test_what_is_neither_stays(odd: bytes) -> None:
    assert plain(odd) == odd
    assert modified(odd) == odd


def test_a_text_message_is_read_and_bytes_are_left_alone() -> None:
    assert read({}, Frame("MESSAGE", {}, JAVA)).body == "\U0001f600".encode()
    assert read({}, Frame("MESSAGE", {"content-length": "6"}, JAVA)).body == JAVA


def test_headers_are_read() -> None:
    (frame,) = Decoder("1.2").feed(b"MESSAGE\nname:" + JAVA + b"\n\n\0")
    assert (frame.headers["name"], frame.fault) == ("\U0001f600", "")
