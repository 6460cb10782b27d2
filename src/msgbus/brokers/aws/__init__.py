"""AWS for brokers: `AwsClient` calls any operation, the hot ones by a lean signed-HTTP client of its own."""

from msgbus.brokers.aws.calls import AwsClient
from msgbus.brokers.aws.errors import AwsError, entry_error, native_code, translate_any
from msgbus.brokers.aws.settings import AwsSettings

__all__ = ["AwsClient", "AwsError", "AwsSettings", "entry_error", "native_code", "translate_any"]
