"""Round trips through every kind of broker, and what foreign producers send."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.scripted import PLAIN

from msgbus import headers as h
from msgbus.broker import Capabilities
from msgbus.envelope import structured
from msgbus.envelope.fitting import fitter
from msgbus.envelope.opening import open_delivery, opener
from msgbus.envelope.structured import STRUCTURED
from msgbus.errors import ConfigError, DecodeError
from msgbus.message import Address, Delivery, Outgoing, Source

SOURCE = Source("topic", "orders", "billing")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
NAMES = st.one_of(
    st.sampled_from([h.ID, h.TYPE, h.SOURCE, h.TIME, h.KEY, h.CORRELATION, h.CAUSATION, h.REPLY_TO, h.EXPIRES]),
    st.from_regex(r"[a-z][a-z0-9_-]{0,12}", fullmatch=True).filter(lambda name: name not in (h.PACKED, h.ENCODING)),
    TEXTS.filter(lambda name: name not in (h.PACKED, h.ENCODING, "")),
)
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def messages(draw: st.DrawFn) -> tuple[dict[str, str], bytes]:
    """Headers and a body whose content type is true."""
    headers = draw(st.dictionaries(NAMES, TEXTS, max_size=6))
    headers.pop(h.CONTENT_TYPE, None)
    kind = draw(st.sampled_from(["application/json", "text/plain; charset=utf-8", "application/octet-stream", ""]))
    if kind == "application/json":
        body = json.dumps(draw(JSONS), ensure_ascii=draw(st.booleans())).encode()
    elif kind.startswith("text"):
        body = draw(TEXTS).encode()
    else:
        body = draw(st.binary(max_size=50))
    headers[h.SPEC] = "1.0"
    if kind:
        headers[h.CONTENT_TYPE] = kind
    return headers, body


def through(capabilities: Capabilities, headers: Mapping[str, str], body: bytes, *filter_on: str) -> Delivery:
    """What arrives of a message that a broker with these capabilities carried."""
    out = Outgoing(Address("topic", "orders"), "1", body, dict(headers))
    fit = fitter("Topic 'orders'", capabilities, filter_on)
    if fit is not None:
        fit(out)
    check_fitted(out, capabilities)
    carried = {} if capabilities.headers == 0 else dict(out.headers)
    delivery = Delivery(out.body, SOURCE, carried)
    open_it = opener(capabilities)
    if open_it is not None:
        open_it(delivery)
        open_it(delivery)  # as a retry in hand does
    return delivery


def check_fitted(out: Outgoing, capabilities: Capabilities) -> None:
    """It keeps to what the broker can carry."""
    if capabilities.headers:
        assert len(out.headers) <= capabilities.headers
    if not capabilities.binary:
        text = out.body.decode()
        if "json" not in out.headers.get(h.CONTENT_TYPE, ""):
            assert all(c >= " " or c in "\t\n\r" for c in text)


@given(messages(), st.sampled_from([None, 0, 5, 10]), st.booleans())
def test_every_message_survives_every_broker(
    message: tuple[dict[str, str], bytes], headers: int | None, binary: bool
) -> None:
    names, body = message
    delivery = through(replace(PLAIN, headers=headers, binary=binary), names, body)
    assert delivery.body == body
    assert dict(delivery.headers) == names


@given(messages())
def test_what_has_no_header_of_ours_is_left_as_it_is(message: tuple[dict[str, str], bytes]) -> None:
    names, body = message
    foreign = {name: value for name, value in names.items() if name not in (h.SPEC, h.CONTENT_TYPE)}
    delivery = Delivery(body, SOURCE, foreign)
    open_delivery(delivery)
    assert delivery.body == body
    assert dict(delivery.headers) == foreign


def test_promoted_headers_stay_native_where_there_are_few() -> None:
    out = Outgoing(
        Address("topic", "orders"),
        "1",
        b"{}",
        {h.ID: "1", h.CONTENT_TYPE: "application/json", h.CORRELATION: "c", h.REPLY_TO: "r", "tenant": "t", "x": "y"},
    )
    fit = fitter("Topic 'orders'", replace(PLAIN, headers=6), ["tenant"])
    assert fit is not None
    fit(out)
    packed = json.loads(out.headers.pop(h.PACKED))
    assert out.headers == {h.CONTENT_TYPE: "application/json", h.CORRELATION: "c", h.REPLY_TO: "r", "tenant": "t"}
    assert packed == {h.ID: "1", "x": "y"}


@pytest.mark.parametrize(
    ("headers", "text"), [(0, "this broker has none"), (5, r"names 2 headers, this broker has room for 1")]
)
def test_more_filter_headers_than_there_is_room_for_are_refused(headers: int, text: str) -> None:
    with pytest.raises(ConfigError, match=text) as refused:
        fitter("Topic 'orders'", replace(PLAIN, headers=headers), ["tenant", "country"])
    assert "orders" in str(refused.value)


@pytest.mark.parametrize("character", ["\ufffe", "\uffff"])
def test_json_with_a_character_that_is_none_goes_as_base64(character: str) -> None:
    fit = fitter("Topic 'orders'", replace(PLAIN, headers=10, binary=False))
    assert fit is not None
    for body, encoding in (
        (json.dumps(character).encode(), None),
        (f'"{character}"'.encode(), "base64"),
        ('"\uff5e"'.encode(), None),
    ):
        out = Outgoing(Address("topic", "orders"), "1", body, {h.CONTENT_TYPE: "application/json"})
        fit(out)
        assert json.loads(out.headers[h.PACKED]).get(h.ENCODING) == encoding


def test_json_stays_readable_for_foreign_consumers() -> None:
    out = Outgoing(Address("topic", "orders"), "1", b'{"total":1.10}', {h.ID: "1", h.CONTENT_TYPE: "application/json"})
    fit = fitter("orders", replace(PLAIN, headers=0, binary=False))
    assert fit is not None
    fit(out)
    event = json.loads(out.body)
    assert event["data"] == {"total": 1.1}
    assert (event["id"], event["specversion"], event["datacontenttype"]) == ("1", "1.0", "application/json")
    assert b"1.10" in out.body, "byte for byte"


NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)


@given(NUMBERS, st.sampled_from(["", " ", "\n\t"]))
def test_a_foreign_event_keeps_the_digits_of_its_numbers(number: str, space: str) -> None:
    body = f'{{{space}"specversion":{space}"1.0","id":"7","data":{space}{{"total": {number}}}{space}}}{space}'
    delivery = Delivery(body.encode(), SOURCE, {h.CONTENT_TYPE: STRUCTURED + "; charset=utf-8"})
    open_delivery(delivery)
    assert delivery.body == f'{{"total": {number}}}'.encode()
    assert delivery.headers[h.ID] == "7"


def test_a_foreign_event_s_attributes_become_headers() -> None:
    event = {
        "specversion": "1.0",
        "id": "7",
        "type": "OrderPlaced",
        "tenant": "t",
        "shard": 5,
        "subject": None,
        "datacontenttype": "text/plain",
        "data": "häl\nlo",
    }
    delivery = Delivery(json.dumps(event).encode(), SOURCE, {h.CONTENT_TYPE: STRUCTURED, "native": "n"})
    open_delivery(delivery)
    assert delivery.body == "häl\nlo".encode()
    assert delivery.headers == {
        h.SPEC: "1.0",
        h.ID: "7",
        h.TYPE: "OrderPlaced",
        "ce-tenant": "t",
        "ce-shard": "5",
        h.CONTENT_TYPE: "text/plain",
        "native": "n",
    }


def test_a_foreign_event_without_a_content_type_is_json() -> None:
    delivery = Delivery(b'{"specversion":"1.0","data":"text"}', SOURCE, {h.CONTENT_TYPE: STRUCTURED})
    open_delivery(delivery)
    assert delivery.body == b'"text"'


def test_a_foreign_json_body_that_merely_contains_an_event_is_left_as_it_is() -> None:
    body = b'{"wrapped":{"specversion":"1.0","id":"7"}}'
    delivery = Delivery(body, SOURCE, {})
    open_delivery(delivery)
    assert delivery.body == body


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"a":1', b'{"a" 1}', b'{"a":1}x', b"\xff", b'{"data_base64":"?"}', b'{"data_base64":5}'],
)
def test_a_damaged_event_is_a_decode_error(body: bytes) -> None:
    delivery = Delivery(body, SOURCE, {h.CONTENT_TYPE: STRUCTURED})
    with pytest.raises(DecodeError, match="structured CloudEvent"):
        open_delivery(delivery)


@pytest.mark.parametrize("value", ["plain", "\u00fc\U0001f680", "half \ud83d", '"\\', "\x00\x7f\ufffe"])
def test_the_packed_header_is_ascii_whatever_it_holds(value: str) -> None:
    fit = fitter("Topic 'orders'", replace(PLAIN, headers=10))
    assert fit is not None
    out = Outgoing(Address("topic", "orders"), "1", b"{}", {h.ID: "1", "odd": value})
    fit(out)
    assert out.headers[h.PACKED].isascii()
    delivery = Delivery(b"{}", SOURCE, out.headers)
    open_delivery(delivery)
    assert delivery.headers == {h.ID: "1", "odd": value}


def test_a_packed_header_of_a_foreign_producer_may_hold_other_values_than_text() -> None:
    delivery = Delivery(b"{}", SOURCE, {h.PACKED: '{"number":5,"half":"\\ud83d"}', "native": "n"})
    open_delivery(delivery)
    assert delivery.headers == {"number": "5", "half": "\ud83d", "native": "n"}


@pytest.mark.parametrize("packed", ["", "{", "[]", "5", "null"])
def test_a_damaged_packed_header_is_a_decode_error(packed: str) -> None:
    with pytest.raises(DecodeError, match="header msgbus is no JSON object"):
        open_delivery(Delivery(b"", SOURCE, {h.PACKED: packed}))


@pytest.mark.parametrize("body", [b"?", b"abc", b"a b="])
def test_a_body_that_is_no_base64_is_a_decode_error(body: bytes) -> None:
    with pytest.raises(DecodeError, match="msgbus-encoding"):
        open_delivery(Delivery(body, SOURCE, {h.ENCODING: "base64"}))


def test_nothing_is_done_where_nothing_is_needed() -> None:
    assert fitter("orders", PLAIN) is None
    assert opener(PLAIN) is None


def test_a_body_that_only_claims_to_be_json_does_not_break_the_envelope() -> None:
    """A `bytes` topic whose publisher says application/json of what is none."""
    delivery = through(replace(PLAIN, headers=0, binary=False), {h.CONTENT_TYPE: "application/json"}, b"\xff not JSON")
    assert delivery.body == b"\xff not JSON"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ["specversion", "id", "type", "data", "datacontenttype", "msgbusheaders", "msgbussize", "x", ',"data":', "é"]
)


@given(st.lists(st.tuples(NAMES, JSON), max_size=6), st.booleans(), st.booleans())
def test_the_quick_way_into_an_envelope_finds_what_the_careful_one_does(
    members: list[tuple[str, object]], compact: bool, ascii_only: bool
) -> None:
    separators = (",", ":") if compact else (", ", ": ")
    event = dict(members)
    body = json.dumps(event, separators=separators, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    careful: object
    try:
        careful = structured.unstructure_carefully({}, body)
    except DecodeError:
        careful = DecodeError
    found: object
    try:
        found = structured.unstructure({}, body)
    except DecodeError:
        found = DecodeError
    assert found == careful


def test_a_header_that_json_must_escape_arrives() -> None:
    delivery = through(
        replace(PLAIN, headers=0, binary=False), {h.ID: "a\udcffb", h.CONTENT_TYPE: "application/json"}, b"{}"
    )
    assert delivery.headers[h.ID] == "a\udcffb"
