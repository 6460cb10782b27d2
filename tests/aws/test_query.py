"""The query protocol: forms that any form decoder reads back, and XML that can't hurt."""

from urllib.parse import parse_qsl, quote_from_bytes

import pytest
from botocore.serialize import create_serializer  # type: ignore[import-untyped]
from botocore.session import Session  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from msgbus.brokers.aws.query import decode_result, encode_form, parse_xml, quote


@given(st.binary(max_size=400))
def test_quote_is_what_urllib_does(data: bytes) -> None:
    assert quote(data) == quote_from_bytes(data, safe="~").encode()


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
attributes = st.dictionaries(
    texts.filter(bool),
    st.one_of(
        st.builds(lambda value: {"DataType": "String", "StringValue": value}, texts),
        st.builds(lambda value: {"DataType": "Binary", "BinaryValue": value}, st.binary(max_size=20)),
    ),
    max_size=3,
)
entries = st.lists(
    st.builds(
        lambda message, more: {"Id": "1", "Message": message} | ({"MessageAttributes": more} if more else {}),
        texts,
        attributes,
    ),
    min_size=1,
    max_size=3,
)
_MODEL = Session().get_service_model("sns").operation_model("PublishBatch")


@given(entries)
def test_a_form_says_what_botocore_says(batch: list[dict[str, object]]) -> None:
    params = {"TopicArn": "arn:aws:sns:eu-west-1:1:t", "PublishBatchRequestEntries": batch}
    theirs = create_serializer("query").serialize_to_request(params, _MODEL)["body"]
    ours = encode_form("PublishBatch", "2010-03-31", params)
    assert dict(parse_qsl(ours.decode(), keep_blank_values=True, strict_parsing=True)) == theirs


def test_flags_and_numbers() -> None:
    assert encode_form("A", "1", {"b": True, "c": False, "d": 3, "e": {"f": "g"}}) == (
        b"Action=A&Version=1&b=true&c=false&d=3&e.f=g"
    )


def test_a_value_that_can_not_be_written() -> None:
    with pytest.raises(TypeError, match="object"):
        encode_form("A", "1", {"b": object()})


def test_a_batch_result() -> None:
    xml = b"""<PublishBatchResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishBatchResult>
    <Successful><member><Id>0</Id><MessageId>m</MessageId></member></Successful>
    <Failed><member><Id>1</Id><Code>InternalError</Code><Message>a &amp; b</Message>
    <SenderFault>false</SenderFault></member></Failed></PublishBatchResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata>
    </PublishBatchResponse>"""
    assert decode_result("PublishBatch", xml) == {
        "Successful": [{"Id": "0", "MessageId": "m"}],
        "Failed": [{"Id": "1", "Code": "InternalError", "Message": "a & b", "SenderFault": False}],
    }


def test_empty_lists() -> None:
    result = b"<PublishBatchResult><Failed/><Successful></Successful></PublishBatchResult>"
    xml = b"<PublishBatchResponse>" + result + b"</PublishBatchResponse>"
    assert decode_result("PublishBatch", xml) == {"Successful": [], "Failed": []}


@pytest.mark.parametrize(
    "xml",
    [
        b"",
        b"<a>",
        b"{}",
        b"<PublishResponse/>",
        b"<Other><PublishResult><MessageId>1</MessageId></PublishResult></Other>",
        b'<!DOCTYPE a [<!ENTITY b "bbbb">]><PublishResponse>&b;</PublishResponse>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><PublishResponse/>',
    ],
)
def test_what_is_no_result_is_a_value_error(xml: bytes) -> None:
    with pytest.raises(ValueError, match=r"XML|PublishResult|document type"):
        decode_result("Publish", xml)


@given(st.binary(max_size=100))
def test_junk_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"not XML|document type"):
        parse_xml(b"<a>" + data)
