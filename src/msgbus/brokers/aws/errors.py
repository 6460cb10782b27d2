"""The one place where AWS's refusals, HTTP's failures and botocore's exceptions become errors of msgbus.

Source: the error parts of the Smithy 2.0 protocol specifications; for the codes see `codes`.

Nothing here is `Disconnected`: there is no connection that a receiver would die with, and the next call
simply opens another. Trouble on the way is `Unavailable`.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from botocore import exceptions as native  # type: ignore[import-untyped]

from msgbus.brokers.aws import codes, jsons, query
from msgbus.brokers.aws.failures import (
    ConnectError,
    HttpError,
    PoolBusyError,
    PoolClosedError,
    ResponseTooLargeError,
)
from msgbus.brokers.aws.response import Response
from msgbus.errors import BusError, LeaseLost, Refused, Throttled, Unavailable

_RESOURCES = (
    "QueueUrl",
    "TopicArn",
    "TargetArn",
    "StreamName",
    "StreamARN",
    "EventBusName",
    "TableName",
    "QueueName",
    "Name",
)


_LONGEST_WAIT = 10  # digits of Retry-After; more are no time to wait
_TRANSIENT = (
    native.ConnectionError,
    native.HTTPClientError,
    native.CredentialRetrievalError,
    native.MetadataRetrievalError,
    native.TokenRetrievalError,
)


class AwsError(Exception):
    """What AWS answered: the `__cause__` of the msgbus error, on either path.

    `code` as AWS wrote it. `status`: of the HTTP answer, 0 for an entry of a batch. `server_time`: its Date,
    Unix seconds. `retry_after`: seconds, where it said so.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int = 0,
        request_id: str = "",
        server_time: float | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}" + (f" (request {request_id})" if request_id else ""))
        self.code = code
        self.message = message
        self.status = status
        self.request_id = request_id
        self.server_time = server_time
        self.retry_after = retry_after

    @property
    def short(self) -> str:
        """The code as `codes.short` gives it."""
        return codes.short(self.code)

    @property
    def about_credentials(self) -> bool:
        """Other credentials may help."""
        return self.short in codes.CREDENTIALS

    @property
    def about_time(self) -> bool:
        """A wrong clock can be the reason."""
        return self.short in codes.SKEW


def native_code(error: BaseException | None) -> str:
    """The short code behind an error of msgbus, "" where AWS had no part in it."""
    cause = error.__cause__ if error is not None else None
    if isinstance(cause, native.ClientError):
        cause = error_of_client(cause)
    return cause.short if isinstance(cause, AwsError) else ""


def resource_of(params: Mapping[str, Any]) -> str:
    """What a call is about, for messages; "" where it is about nothing that has a name."""
    for name in _RESOURCES:
        if name in params:
            return str(params[name])
    entries = params.get("Entries")
    if entries and "EventBusName" in entries[0]:
        return str(entries[0]["EventBusName"])
    return ""


def error_of_response(response: Response) -> AwsError:
    """The error in an answer that is not 2xx, whichever protocol it speaks; a proxy's HTML page has none."""
    code, message = _error_body(response)
    code = response.header("x-amzn-query-error").partition(";")[0] or response.header("x-amzn-errortype") or code
    return AwsError(
        code or f"HTTP {response.status}",
        message,
        status=response.status,
        request_id=response.header("x-amzn-requestid") or response.header("x-amz-request-id"),
        server_time=http_time(response.header("date")),
        retry_after=_number(response.header("retry-after")),
    )


def error_of_client(error: Any) -> AwsError:
    """The same from botocore's ClientError."""
    details = error.response.get("Error", {})
    meta = error.response.get("ResponseMetadata", {})
    headers = meta.get("HTTPHeaders", {})
    return AwsError(
        details.get("Code", "unknown"),
        details.get("Message", ""),
        status=meta.get("HTTPStatusCode", 0),
        request_id=meta.get("RequestId", ""),
        server_time=http_time(headers.get("date", "")),
        retry_after=_number(headers.get("retry-after", "")),
    )


def _error_body(response: Response) -> tuple[str, str]:
    try:
        if response.body.lstrip()[:1] == b"<":
            error = next(iter(query.parse_xml(response.body).values()))["Error"]
            return str(error.get("Code", "")), str(error.get("Message", ""))
        error = jsons.decode(response.body)
        return str(error.get("__type", "")), str(error.get("message") or error.get("Message") or "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "", response.body[:200].decode("utf-8", "replace")


def http_time(text: str) -> float | None:
    """A Date header as Unix time."""
    try:
        return parsedate_to_datetime(text).timestamp() if text else None
    except (ValueError, TypeError, OverflowError):
        return None


def _number(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() and len(text) <= _LONGEST_WAIT else None


def translate(error: AwsError, service: str, operation: str, resource: str) -> BusError:
    """The msgbus error for a refused call; raise it `from` the AwsError."""
    short = error.short
    what = _call(service, operation, resource)
    detail = f"{error.message or 'no message'} ({error.code})"
    if short in codes.THROTTLED or error.status == 429:
        return Throttled(f"{what}: {detail}", error.retry_after)
    if short in codes.LEASE or "receipt handle has expired" in error.message:
        return LeaseLost(f"{what}: {detail}")
    if short in codes.UNAVAILABLE or error.status >= 500 or error.status == 408:
        return Unavailable(f"{what}: {detail}")
    advice = _advice(error, service, operation, resource)
    return (Unavailable if short in codes.EXPIRED else Refused)(f"{what}: {detail}{advice}")


def _call(service: str, operation: str, resource: str) -> str:
    return f"{service} {operation} on {resource}" if resource else f"{service} {operation}"


def _advice(error: AwsError, service: str, operation: str, resource: str) -> str:
    """What to look at, by the kind of refusal."""
    action = f"{service}:{operation.removesuffix('Batch')}"
    if error.short in codes.DENIED:
        return f"; allow {action} on {resource or '*'} to the role or user of these credentials"
    if error.about_credentials:
        return f"; {action} needs valid credentials: check the access key, the session token and the region"
    if error.about_time:
        return "; check the clock of this machine"
    if error.short in codes.MISSING:
        return f"; {resource or 'it'} is not there: check its name, the account and the region"
    return ""


def translate_any(error: Exception, service: str, operation: str, resource: str) -> BusError:
    """The msgbus error for whatever a call raised, on either path; raise it `from` that."""
    what = _call(service, operation, resource)
    if isinstance(error, BusError):
        return error
    if isinstance(error, native.ClientError):  # met while credentials were fetched, from STS for example
        error = error_of_client(error)
    if isinstance(error, AwsError):
        return translate(error, service, operation, resource)
    if isinstance(error, HttpError):
        return _translate_http(error, what)
    if isinstance(error, native.BotoCoreError):
        return _translate_botocore(error, what)
    return Unavailable(f"{what}: {str(error) or type(error).__name__}; whether it was carried out is unknown")


def _translate_http(error: HttpError, what: str) -> BusError:
    if isinstance(error, ResponseTooLargeError):
        return Refused(f"{what}: {error}; raise max_response, or ask for less")
    if isinstance(error, (ConnectError, PoolBusyError, PoolClosedError)):
        return Unavailable(f"{what}: {error}")
    return Unavailable(f"{what}: {error}; whether it was carried out is unknown")


def _translate_botocore(error: Exception, what: str) -> BusError:
    if isinstance(error, _TRANSIENT):
        return Unavailable(f"{what}: {error}")
    if isinstance(error, native.NoCredentialsError):
        return Refused(f"{what}: no AWS credentials in the environment, a profile, or from a role")
    if isinstance(error, native.NoRegionError):
        return Refused(f"{what}: no AWS region: set AWS_DEFAULT_REGION, or `region` in the options or the profile")
    return Refused(f"{what}: {error}")


def entry_error(entry: Mapping[str, Any], service: str, operation: str, resource: str) -> BusError:
    """The error of one entry of a batch (SQS, SNS, PutRecords, PutEvents), its AwsError as `__cause__`."""
    code = str(entry.get("Code") or entry.get("ErrorCode") or "unknown")
    cause = AwsError(code, str(entry.get("Message") or entry.get("ErrorMessage") or ""))
    error = translate(cause, service, operation, resource)
    if type(error) is Refused and entry.get("SenderFault") is False:
        error = Unavailable(str(error))  # the service takes the blame, whatever the code
    error.__cause__ = cause
    return error
