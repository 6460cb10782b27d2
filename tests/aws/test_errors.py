"""Every refusal and failure becomes the right error of msgbus, saying what to do."""

import pytest
from botocore import exceptions as native  # type: ignore[import-untyped]

from msgbus.brokers.aws import codes, failures
from msgbus.brokers.aws.errors import (
    AwsError,
    entry_error,
    error_of_client,
    error_of_response,
    native_code,
    resource_of,
    translate_any,
)
from msgbus.brokers.aws.response import Response
from msgbus.errors import BusError, Disconnected, LeaseLost, Refused, Throttled, Unavailable

QUEUE = "https://sqs.eu-west-1.amazonaws.com/1/q"


def response(status: int, body: bytes = b"", **headers: str) -> Response:
    named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return Response(status, named, body)


def translated(answer: Response, operation: str = "SendMessageBatch") -> BusError:
    return translate_any(error_of_response(answer), "sqs", operation, QUEUE)


@pytest.mark.parametrize(
    ("code", "short"),
    [
        ("com.amazonaws.sqs#QueueDoesNotExist", "QueueDoesNotExist"),
        ("ThrottlingException:http://internal.amazon.com/coral/", "Throttling"),
        ("AWS.SimpleQueueService.NonExistentQueue", "NonExistentQueue"),
        ("KMS.ThrottlingException", "Throttling"),
        ("NotFound", "NotFound"),
    ],
)
def test_spellings_of_a_code(code: str, short: str) -> None:
    assert codes.short(code) == short


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        (
            response(400, b'{"__type":"com.amazonaws.sqs#RequestThrottled","message":"slow"}'),
            Throttled,
            "slow",
        ),
        (response(400, b'{"__type":"OverLimit"}'), Throttled, "no message"),
        (response(429, b"<html>"), Throttled, "HTTP 429"),
        (response(500, b""), Unavailable, "HTTP 500"),
        (response(503, b"<html><body>busy</body></html>"), Unavailable, "busy"),
        (response(400, b'{"__type":"InternalFailure"}'), Unavailable, "InternalFailure"),
        (response(408, b"[]"), Unavailable, "HTTP 408"),
        (
            response(400, b'{"__type":"AccessDeniedException","Message":"no"}'),
            Refused,
            f"sqs:SendMessage on {QUEUE}",
        ),
        (response(403, b'{"__type":"ExpiredToken"}'), Unavailable, "session token"),
        (response(403, b'{"__type":"InvalidClientTokenId"}'), Refused, "session token"),
        (response(403, b'{"__type":"RequestTimeTooSkewed"}'), Refused, "clock"),
        (response(400, b'{"__type":"QueueDoesNotExist"}'), Refused, "not there"),
        (response(400, b'{"__type":"ReceiptHandleIsInvalid"}'), LeaseLost, "ReceiptHandleIsInvalid"),
        (
            response(400, b'{"__type":"InvalidParameterValue","message":"The receipt handle has expired"}'),
            LeaseLost,
            "expired",
        ),
        (response(400, b'{"__type":"InvalidMessageContents","message":"bad char"}'), Refused, "bad char"),
        (response(301, b""), Refused, "HTTP 301"),
        (
            response(
                404,
                b"<ErrorResponse><Error><Code>NotFound</Code><Message>m</Message></Error></ErrorResponse>",
            ),
            Refused,
            "m",
        ),
        (
            response(400, b"{}", x_amzn_query_error="AWS.SimpleQueueService.NonExistentQueue;Sender"),
            Refused,
            "not there",
        ),
        (response(400, b"{}", x_amzn_errortype="ThrottlingException:"), Throttled, "Throttling"),
    ],
)
def test_an_answer_becomes_an_error(answer: Response, kind: type[BusError], text: str) -> None:
    error = translated(answer)
    assert type(error) is kind
    assert text in str(error)
    assert "SendMessageBatch" in str(error)


def test_what_the_answer_says_is_kept() -> None:
    error = error_of_response(
        response(
            400,
            b'{"__type":"ThrottlingException","message":"m"}',
            x_amzn_requestid="r1",
            retry_after="7",
            date="Tue, 24 Nov 2026 03:31:11 GMT",
        )
    )
    assert (error.code, error.message, error.status, error.request_id) == (
        "ThrottlingException",
        "m",
        400,
        "r1",
    )
    assert error.server_time == 1795491071.0
    throttled = translate_any(error, "sqs", "SendMessage", QUEUE)
    assert isinstance(throttled, Throttled)
    assert throttled.retry_after == 7.0
    assert "r1" in str(error)


def test_odd_dates_and_delays_are_ignored() -> None:
    odd = [("soon", "yesterday"), ("\xb3", "4 Nov 22222226 0:00"), ("9" * 400, "")]
    for delay, date in odd:
        error = error_of_response(response(400, b"{}", retry_after=delay, date=date))
        assert (error.server_time, error.retry_after) == (None, None)


def test_an_error_that_is_nested_too_deep_is_one_without_a_code() -> None:
    assert error_of_response(response(400, b'{"__type":' + b"[" * 100_000)).code == "HTTP 400"


@pytest.mark.parametrize(
    ("failure", "kind", "text"),
    [
        (failures.ConnectError("no connection to h:1"), Unavailable, "no connection"),
        (failures.PoolBusyError("busy"), Unavailable, "busy"),
        (failures.PoolClosedError("closed"), Unavailable, "closed"),
        (failures.ConnectionClosedError("gone", started=True), Unavailable, "unknown"),
        (failures.AnswerTimeoutError("slow"), Unavailable, "unknown"),
        (failures.BadResponseError("junk"), Unavailable, "unknown"),
        (failures.ResponseTooLargeError("big"), Refused, "max_response"),
        (native.EndpointConnectionError(endpoint_url="http://h"), Unavailable, "http://h"),
        (native.ReadTimeoutError(endpoint_url="http://h"), Unavailable, "http://h"),
        (native.CredentialRetrievalError(provider="p", error_msg="e"), Unavailable, "e"),
        (native.NoCredentialsError(), Refused, "no AWS credentials"),
        (native.NoRegionError(), Refused, "AWS_DEFAULT_REGION"),
        (native.ParamValidationError(report="missing"), Refused, "missing"),
        (TimeoutError(), Unavailable, "TimeoutError"),
        (OSError("reset"), Unavailable, "reset"),
    ],
)
def test_a_failure_becomes_an_error(failure: Exception, kind: type[BusError], text: str) -> None:
    error = translate_any(failure, "sqs", "SendMessage", QUEUE)
    assert type(error) is kind
    assert not isinstance(error, Disconnected)  # receivers would die of it
    assert text in str(error)


def test_an_error_of_ours_stays_what_it_is() -> None:
    error = Refused("as it is")
    assert translate_any(error, "sqs", "SendMessage", QUEUE) is error


def test_a_client_error_of_botocore_says_the_same() -> None:
    raw = {
        "Error": {"Code": "AWS.SimpleQueueService.NonExistentQueue", "Message": "m"},
        "ResponseMetadata": {
            "HTTPStatusCode": 400,
            "RequestId": "r1",
            "HTTPHeaders": {"date": "Tue, 24 Nov 2026 03:31:11 GMT", "retry-after": "3"},
        },
    }
    error = error_of_client(native.ClientError(raw, "SendMessage"))
    assert (error.short, error.status, error.request_id, error.retry_after) == (
        "NonExistentQueue",
        400,
        "r1",
        3.0,
    )
    assert "not there" in str(translate_any(native.ClientError(raw, "x"), "sqs", "SendMessage", QUEUE))


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        ({"Id": "1", "Code": "InternalError", "Message": "m", "SenderFault": False}, Unavailable),
        ({"Id": "1", "Code": "SomethingNew", "Message": "m", "SenderFault": False}, Unavailable),
        ({"Id": "1", "Code": "SomethingNew", "Message": "m", "SenderFault": True}, Refused),
        ({"Id": "1", "Code": "ReceiptHandleIsInvalid", "SenderFault": True}, LeaseLost),
        ({"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "m"}, Throttled),
        ({"ErrorCode": "InternalFailure", "ErrorMessage": "m"}, Unavailable),
        ({"ErrorCode": "MalformedDetail", "ErrorMessage": "m"}, Refused),
        ({}, Refused),
    ],
)
def test_an_entry_of_a_batch(entry: dict[str, object], kind: type[BusError]) -> None:
    error = entry_error(entry, "sqs", "SendMessageBatch", QUEUE)
    assert type(error) is kind
    assert isinstance(error.__cause__, AwsError)
    assert native_code(error) == codes.short(str(entry.get("Code") or entry.get("ErrorCode") or "unknown"))


def test_native_code_of_others() -> None:
    assert native_code(None) == native_code(Refused("x")) == ""


@pytest.mark.parametrize(
    ("params", "resource"),
    [
        ({"QueueUrl": QUEUE}, QUEUE),
        ({"TopicArn": "arn"}, "arn"),
        ({"Entries": [{"EventBusName": "bus"}]}, "bus"),
        ({"Entries": [{}]}, ""),
        ({}, ""),
    ],
)
def test_what_a_call_is_about(params: dict[str, object], resource: str) -> None:
    assert resource_of(params) == resource
