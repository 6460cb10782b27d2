"""`sqs://`: queues are Amazon SQS, topics are Amazon SNS with SQS subscriptions. Needs the extra `aws`.

- `options`: the URL. `names`: queues, topics and ARNs. `targets`: where an address leads. `broker`: the whole.
- `envelopes`, `foreign`: what others write.
- Out: `wire` makes a message of headers and body, `store` keeps a large body in S3, `sending` sends batches.
- In: `polls` fill the mailbox of a `receiver`, `attempts` counts those of FIFO queues, `settling` deletes, gives
  back and buries, `dead` writes dead letters. `inbox`: replies.
- What must be there: `plans` says what is created and `rights` what must be allowed, both of which `planning` tells
  beforehand; `topology` looks for and makes `queues` (with dead letters, leases, and by `policy` who may send) and
  `subscriptions`; `admin`, `moving`: operations.
"""

from msgbus.brokers.sqs.broker import SqsBroker
from msgbus.brokers.sqs.store import S3Store

__all__ = ["S3Store", "SqsBroker"]
