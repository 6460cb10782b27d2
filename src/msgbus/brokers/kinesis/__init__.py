"""`kinesis://`: topics are Amazon Kinesis streams, groups share their shards by leases. Needs the extra `aws`.

- `options`: the URL. `broker`: the whole. `stream`: what is asked of one.
- Out: `sending` makes records of messages, `hashing` finds their shards, `batching` and `aggregation` put them
  together, `rates` holds back what a shard would refuse, `putting` calls and reads the answers.
- Leases: `rows` of a store in `stores`, `balance` decides who takes which; a worker is a `group`, each of its
  shards a `shardwork`, whose lease and checkpoints a `keeper` writes.
- In: `polling` or `fanout` read a shard, `records` takes aggregates apart, and by `parts` what has no frame;
  `holding` knows what is handed out and settled, by `keys`; `deliveries` are what the `receiver` hands in. `trials`:
  records that may kill their process.
- `failures`: dead letters. What must be there: `planning` tells beforehand, `topology` looks and makes; `admin`:
  operations.
"""

from msgbus.brokers.kinesis.broker import KinesisBroker
from msgbus.brokers.kinesis.sending import KinesisMessage

__all__ = ["KinesisBroker", "KinesisMessage"]
