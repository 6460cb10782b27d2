"""What brokers on AWS share, in the order in which a call meets it.

- `options`, `settings`: what a URL says about regions, endpoints, timeouts. `lifetime`: connecting and closing.
- `calls`: `AwsClient.call`, any operation of any service; `session`: credentials, endpoints, aiobotocore's clients.
- `fast`: the hot `operations` as signed requests of our own: `jsons` and `query` write and read bodies, `signing`
  and `request` make bytes of them.
- `arns`: names of what may not be there yet; `templates`: what is planned, for those who make it with other tools.
- `http`, `pool`, `connection`, `response`: those bytes on keep-alive connections, and the answers.
- `failures` of HTTP and error `codes` of AWS become errors of msgbus in `errors`.
"""

from msgbus.brokers.aws.arns import Arn
from msgbus.brokers.aws.calls import AwsClient
from msgbus.brokers.aws.errors import AwsError, entry_error, native_code, translate_any
from msgbus.brokers.aws.lifetime import Lifetime
from msgbus.brokers.aws.settings import AwsSettings

__all__ = ["Arn", "AwsClient", "AwsError", "AwsSettings", "Lifetime", "entry_error", "native_code", "translate_any"]
