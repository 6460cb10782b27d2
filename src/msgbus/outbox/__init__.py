"""Messages that are published by the commit of a database transaction. In the order in which a message meets them:

- `outbox.py`: `Outbox.publish`, which makes the message in the caller's task;
- `rows.py`: the row that it becomes, and its partition;
- `writing.py`: into the caller's transaction, by the driver that its connection is of;
- `unit.py`: SQLAlchemy, where rows are gathered until just before the commit;
- `schema.py`: the tables;
- `waker.py`: relays elsewhere hear of a commit;
- `relay.py`: the relay, which reads and sends round after round; `reading.py`: its pages, one ahead;
- `holding.py`: its partitions, each by a lease with a fencing token; `floor.py`: where reading one begins;
- `sending.py`: to the broker, and what became of each row;
- `store.py`: what a relay asks of a database; `sql.py`: PostgreSQL and SQLite, with the statements of `texts.py`.
"""

from msgbus.outbox.outbox import Outbox
from msgbus.outbox.relay import Relay
from msgbus.outbox.schema import script
from msgbus.outbox.store import Store

__all__ = ["Outbox", "Relay", "Store", "script"]
