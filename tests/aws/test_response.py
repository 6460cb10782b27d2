"""The sans-IO answer parser: any split of the bytes, every framing, limits, and junk."""

import contextlib
import gzip
import itertools
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.aws.fakes import answer

from msgbus.brokers.aws.failures import BadResponseError, HttpError, ResponseTooLargeError
from msgbus.brokers.aws.response import MAX_HEAD, Response, ResponseParser

LIMIT = 4096


def chunked(body: bytes, size: int, *, trailer: bytes = b"") -> bytes:
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    framed = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(part), part) for part in parts)
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + framed + b"0\r\n" + trailer + b"\r\n"


def feed(parser: ResponseParser, data: bytes, cuts: list[int]) -> Response | None:
    """Feed `data` cut at these places; only the last piece may complete the answer."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    found = None
    for start, end in itertools.pairwise(places):
        assert found is None
        found = parser.feed(data[start:end])
    return found


cuts = st.lists(st.integers(min_value=0, max_value=10_000), max_size=12)


@given(
    body=st.binary(max_size=600),
    framing=st.sampled_from(["length", "chunked", "gzip", "deflate", "chunked gzip", "interim"]),
    size=st.integers(min_value=1, max_value=300),
    cut=cuts,
)
def test_an_answer_is_read_however_it_is_cut(body: bytes, framing: str, size: int, cut: list[int]) -> None:
    data = {
        "length": answer(body, x_amzn_requestid="r1"),
        "chunked": chunked(body, size, trailer=b"x-late: 1\r\n"),
        "gzip": answer(gzip.compress(body, mtime=0), content_encoding="gzip"),
        "deflate": answer(zlib.compress(body), content_encoding="deflate"),
        "chunked gzip": chunked(gzip.compress(body, mtime=0), size).replace(
            b"\r\n\r\n", b"\r\ncontent-encoding: GZIP\r\n\r\n", 1
        ),
        "interim": b"HTTP/1.1 100 Continue\r\nx-interim: 1\r\n\r\n" + answer(body),
    }[framing]
    parser = ResponseParser(LIMIT)
    for _ in range(2):  # a connection carries many answers
        parser.begin()
        response = feed(parser, data, cut)
        assert response is not None
        assert (response.status, response.body) == (200, body)
        assert response.header("x-interim") == ""
        assert parser.keep_alive


@given(data=st.binary(max_size=200), cut=cuts)
def test_junk_never_gives_an_answer_and_fails_only_by_our_errors(data: bytes, cut: list[int]) -> None:
    parser = ResponseParser(LIMIT)
    with contextlib.suppress(HttpError):
        assert feed(parser, b"HTTP/1.1 " + data, cut) is None or data[:3].isdigit()


@given(cut=st.integers(min_value=1, max_value=120), framing=st.sampled_from(["length", "chunked"]))
def test_an_answer_that_is_cut_off_is_no_answer(cut: int, framing: str) -> None:
    data = answer(b"x" * 60) if framing == "length" else chunked(b"x" * 60, 7)
    parser = ResponseParser(LIMIT)
    assert parser.feed(data[: min(cut, len(data) - 1)]) is None
    assert parser.started
    assert parser.finish() is None


def test_headers_are_found_in_lower_case() -> None:
    response = ResponseParser(LIMIT).feed(b"HTTP/1.1 403 No\r\nX-Amzn-RequestId: Ab1\r\nContent-Length: 0\r\n\r\n")
    assert response is not None
    assert (response.status, response.header("x-amzn-requestid"), response.header("none")) == (403, "Ab1", "")


def test_an_answer_without_length_lasts_until_the_end_of_the_connection() -> None:
    parser = ResponseParser(LIMIT)
    assert parser.feed(b"HTTP/1.1 200 OK\r\n\r\nabc") is None
    response = parser.finish()
    assert response is not None
    assert response.body == b"abc"
    assert not parser.keep_alive


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nconnection: close\r\n", b"HTTP/1.0 200 OK\r\n"])
def test_the_server_says_when_the_connection_ends(head: bytes) -> None:
    parser = ResponseParser(LIMIT)
    assert parser.feed(head + b"content-length: 1\r\n\r\nx") is not None
    assert not parser.keep_alive


def test_no_content_has_no_body() -> None:
    parser = ResponseParser(LIMIT)
    response = parser.feed(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert response is not None
    assert parser.keep_alive


@pytest.mark.parametrize(
    "data",
    [
        answer(b"x" * (LIMIT + 1)),
        answer(b"x" * (LIMIT + 1))[:60],  # refused by its headers alone
        chunked(b"x" * (LIMIT + 1), 500),
        answer(gzip.compress(b"x" * 1_000_000, mtime=0), content_encoding="gzip"),
    ],
    ids=["length", "head", "chunked", "bomb"],
)
def test_an_answer_over_the_limit_is_refused(data: bytes) -> None:
    with pytest.raises(ResponseTooLargeError, match=str(LIMIT)):
        ResponseParser(LIMIT).feed(data)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        answer() + answer(),
        answer() + b"more",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * MAX_HEAD,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * (MAX_HEAD // 6),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;" + b"x" * MAX_HEAD,
        answer(b"not gzip", content_encoding="gzip"),
        answer(gzip.compress(b"abc" * 50, mtime=0)[:-9], content_encoding="gzip"),
        answer(b"abc", content_encoding="br"),
    ],
)
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(BadResponseError):
        ResponseParser(LIMIT).feed(data)


def test_a_body_in_the_smallest_chunks_is_read() -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    found = ResponseParser(1 << 20).feed(head + b"1\r\nx\r\n" * MAX_HEAD + b"0\r\n\r\n")
    assert found is not None
    assert found.body == b"x" * MAX_HEAD
