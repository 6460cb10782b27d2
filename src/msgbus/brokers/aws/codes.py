"""Error codes of AWS by what they mean for a caller.

Sources: "Common error types" and the errors of each operation in the API references of SQS, SNS, Kinesis Data
Streams, EventBridge and DynamoDB; the codes that botocore itself takes for throttling and transient trouble.
The sets hold codes as `short` gives them.
"""

from __future__ import annotations


def short(code: str) -> str:
    """The part of an error code that the spellings of the protocols have in common.

    "com.amazonaws.sqs#QueueDoesNotExist:http:..." -> "QueueDoesNotExist", "ThrottlingException" ->
    "Throttling", "AWS.SimpleQueueService.NonExistentQueue" -> "NonExistentQueue".
    """
    code = code.rpartition("#")[2].partition(":")[0]
    return code.rpartition(".")[2].removesuffix("Exception")


def _codes(names: str) -> frozenset[str]:
    return frozenset(names.split())


THROTTLED = _codes(
    """
    BandwidthLimitExceeded KMSThrottling LimitExceeded OverLimit PriorRequestNotComplete
    ProvisionedThroughputExceeded RequestLimitExceeded RequestThrottled SlowDown Throttled ThrottledRequest
    Throttling TooManyRequests TransactionInProgress
    """
)
UNAVAILABLE = _codes(
    """
    Internal InternalError InternalFailure InternalServer InternalServerError RequestTimeout ServiceUnavailable
    ServiceUnavailableError
    """
)
CREDENTIALS = _codes(
    """
    ExpiredToken InvalidAccessKeyId InvalidClientTokenId InvalidSecurity InvalidSignature InvalidToken
    MissingAuthenticationToken SignatureDoesNotMatch TokenRefreshRequired UnrecognizedClient
    """
)
EXPIRED = _codes("ExpiredToken TokenRefreshRequired")
"""Of `CREDENTIALS`, those whose source gives new ones sooner or later: worth another try."""

SKEW = _codes(
    """
    InvalidSignature RequestExpired RequestInTheFuture RequestTimeTooSkewed SignatureDoesNotMatch
    """
)
DENIED = _codes("AccessDenied AuthorizationError KMSAccessDenied NotAuthorized UnauthorizedOperation")
MISSING = _codes("NonExistentQueue NotFound QueueDoesNotExist ResourceNotFound")
LEASE = _codes("MessageNotInflight ReceiptHandleIsInvalid")
