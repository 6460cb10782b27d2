"""What a message may be made of: any bytes, none, any text in headers, many headers."""

# ruff: noqa: S101

from __future__ import annotations

import pytest

from msgbus.testing.conformance.base import Base
from msgbus.testing.conformance.claims import about
from msgbus.testing.conformance.lab import Lab

_ALL_BYTES = bytes(range(256))
_BODIES = {
    "symbol for null": ("\u2400".encode(), "text/plain; charset=utf-8"),
    "every byte": (_ALL_BYTES, "application/octet-stream"),
    "every byte backwards": (_ALL_BYTES[::-1], "application/octet-stream"),
    "zeros": (bytes(1000), "application/octet-stream"),
    "nothing": (b"", "application/octet-stream"),
    "no text": (b"", "text/plain; charset=utf-8"),
    "text": ("naïve 数 🙂 \t\r\n end".encode(), "text/plain; charset=utf-8"),
    "text that XML refuses": ("a\x00b\x1bc\ufffe".encode(), "text/plain; charset=utf-8"),
    "bytes that are called text": (_ALL_BYTES, "text/plain"),
    "json": ('{"a": "ü\\u0000\\n", "b": [1.50, null]}'.encode(), "application/json"),
    "json called by a suffix": (b'{"a":1}', "application/vnd.thing+json"),
    "what looks like an envelope": (b'{"msgbus":"{}","body":"x"}', "application/json"),
    "what looks like a frame": (b"MESSAGE\ndestination:/queue/a\n\nbody\x00\n\n", "application/octet-stream"),
}
_VALUES = {
    "empty": "",
    "colon": "a:b::c:",
    "newline": "one\ntwo\r\nthree\n",
    "backslash": "a\\b\\\\c\\n\\c",
    "spaces": "  both ends  ",
    "tab": "a\tb",
    "unicode": "naïve 数 🙂",
    "quotes": "\"double\" 'single' <tag> & {json}",
    "percent": "100%25 +x=y&z;",
    "number": "007",
    "long": "x" * 1000,
}


class PayloadTests(Base):
    """Through the envelope where the broker can't carry it natively."""

    @pytest.mark.parametrize("what", _BODIES)
    @about("binary", "headers")
    async def test_a_body_arrives_byte_for_byte(self, lab: Lab, what: str) -> None:
        body, content_type = _BODIES[what]
        source = await lab.home()
        await lab.send(lab.out(source, body, content_type=content_type))
        (delivery,) = await lab.drain(source, 1)
        assert delivery.body == body
        assert delivery.headers["content-type"] == content_type

    @about("headers")
    async def test_header_values_are_escaped(self, lab: Lab) -> None:
        source = await lab.home()
        await lab.send(lab.out(source, b"x", headers=_VALUES))
        (delivery,) = await lab.drain(source, 1)
        assert {name: delivery.headers.get(name) for name in _VALUES} == _VALUES

    @about("headers")
    async def test_header_names_are_escaped(self, lab: Lab) -> None:
        source = await lab.home()
        odd = {name: str(place) for place, name in enumerate(("x-Mixed-Case", "a.b", "a_b", "a:b", "a b", "ü"))}
        await lab.send(lab.out(source, b"x", headers=odd))
        (delivery,) = await lab.drain(source, 1)
        assert {name: delivery.headers.get(name) for name in odd} == odd

    @about("headers")
    async def test_many_headers_arrive(self, lab: Lab) -> None:
        source = await lab.home()
        many = {f"x-header-{number}": f"value {number}" for number in range(40)}
        await lab.send(lab.out(source, b"x", headers=many))
        (delivery,) = await lab.drain(source, 1)
        assert {name: delivery.headers.get(name) for name in many} == many

    @about("order", "headers")
    async def test_keys_are_escaped(self, lab: Lab) -> None:
        ordered = lab.can.order != "none"
        source = await lab.home(ordered=ordered)
        keys = ["a b", "ü/数:\\n", "k" * 100]
        await lab.send(*(lab.out(source, number, key=key) for number, key in enumerate(keys)))
        deliveries = sorted(await lab.drain(source, len(keys)), key=lambda delivery: delivery.body)
        assert [delivery.headers["ce-partitionkey"] for delivery in deliveries] == keys
        if ordered:
            assert len({delivery.lane for delivery in deliveries}) == len(keys)
