"""The statements of the SQL store; what differs between PostgreSQL and SQLite stands side by side."""

# ruff: noqa: S608 - nothing but constants of ours is put into them

from __future__ import annotations

from dataclasses import dataclass

from msgbus.outbox.rows import COLUMNS

_ROW = ", ".join(COLUMNS)
_READ = ", ".join(f"r.{name}" for name in (*COLUMNS, "seq"))  # as rows.Row has them
_FROM_R = ", ".join(f"r.{name}" for name in ("seq", *COLUMNS))
_BLOCKED = "SELECT 1 FROM msgbus_outbox_dead d WHERE d.part = r.part AND d.key = r.key AND d.holds"
_OURS = (
    "SELECT 1 FROM msgbus_outbox_part q WHERE q.part = r.part AND q.owner = :owner AND q.token = :token"
    " AND r.part = :part AND r.seq = :seq"
)

# -- the same on both; {now} is the database's clock, a Unix time

VERSION = "SELECT version FROM msgbus_outbox_version"
LIVES = (
    "INSERT INTO msgbus_outbox_relay (owner, until) VALUES (:owner, {now} + :seconds)"
    " ON CONFLICT (owner) DO UPDATE SET until = excluded.until"
)
FORGET = "DELETE FROM msgbus_outbox_relay WHERE until < {now}"
RENEW = "UPDATE msgbus_outbox_part SET until = {now} + :seconds WHERE owner = :owner RETURNING part, token, scan"
COUNT = "SELECT count(*) FROM msgbus_outbox_relay"
RELEASE = "UPDATE msgbus_outbox_part SET owner = '', until = 0 WHERE owner = :owner AND part IN :parts"
RELEASE_ALL = "UPDATE msgbus_outbox_part SET owner = '', until = 0 WHERE owner = :owner"
LEAVE = "DELETE FROM msgbus_outbox_relay WHERE owner = :owner"
BURY = (
    f"INSERT INTO msgbus_outbox_dead (seq, {_ROW}, reason, holds, died)"
    f" SELECT {_FROM_R}, :reason, :holds, {{now}} FROM msgbus_outbox r WHERE EXISTS ({_OURS})"
)
REMOVE = f"DELETE FROM msgbus_outbox AS r WHERE EXISTS ({_OURS})"
LIST_DEAD = (
    "SELECT seq, part, id, kind || '/' || name, key, reason, holds, died FROM msgbus_outbox_dead"
    " WHERE seq > :after AND (:every OR id IN :ids) ORDER BY seq LIMIT :limit"
)
RESCAN = (
    "UPDATE msgbus_outbox_part SET scan = scan + 1"
    " WHERE part IN (SELECT part FROM msgbus_outbox_dead WHERE seq IN :seqs)"
)
RESTORE = f"INSERT INTO msgbus_outbox (seq, {_ROW}) SELECT seq, {_ROW} FROM msgbus_outbox_dead WHERE seq IN :seqs"
DISCARD = "DELETE FROM msgbus_outbox_dead WHERE seq IN :seqs"
WAITING = "SELECT count(*), {now} - min(created) FROM msgbus_outbox"
DEAD = "SELECT count(*) FROM msgbus_outbox_dead"
RELAYS = (
    "SELECT r.owner, (SELECT count(*) FROM msgbus_outbox_part p WHERE p.owner = r.owner AND p.until >= {now})"
    " FROM msgbus_outbox_relay r WHERE r.until >= {now}"
)
UNOWNED = "SELECT count(*) FROM msgbus_outbox_part WHERE until < {now}"


@dataclass(frozen=True, slots=True)
class Texts:
    """What differs."""

    now: str
    take: str
    read: str
    done: str


_TAKE = (
    "UPDATE msgbus_outbox_part SET owner = :owner, token = token + 1, until = {now} + :seconds"
    " WHERE until < {now} AND part "
)
_FREE = "SELECT part FROM msgbus_outbox_part WHERE until < {now} ORDER BY random() LIMIT :count"

POSTGRESQL = Texts(
    now="CAST(extract(epoch FROM clock_timestamp()) AS float8)",
    take=f"{_TAKE}= ANY(ARRAY({_FREE} FOR UPDATE SKIP LOCKED))",
    # One statement is one snapshot. OFFSET 0 keeps the partitions in the order asked for, and the rows then come
    # partition by partition from the primary key.
    read=f"""
SELECT s.oldest, s.next, o.* FROM (
  SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint) AS oldest,
    CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint) AS next
) s LEFT JOIN LATERAL (
  SELECT {_READ.replace("r.", "o.")} FROM (
    SELECT w.part, w.floor FROM
      unnest(CAST(:parts AS smallint[]), CAST(:floors AS bigint[]), CAST(:tokens AS bigint[]), CAST(:scans AS bigint[]))
        WITH ORDINALITY AS w(part, floor, token, scan, place)
      JOIN msgbus_outbox_part q ON q.part = w.part AND q.token = w.token AND q.scan = w.scan AND q.owner = :owner
      ORDER BY w.place OFFSET 0
  ) p CROSS JOIN LATERAL (
    SELECT {_READ} FROM msgbus_outbox r
    WHERE r.part = p.part AND r.seq > p.floor AND r.kind || '/' || r.name <> ALL(CAST(:skip AS text[]))
      AND NOT EXISTS ({_BLOCKED})
    ORDER BY r.seq LIMIT :limit
  ) o LIMIT :limit
) o ON true""",
    done=(
        "DELETE FROM msgbus_outbox r USING"
        " unnest(CAST(:parts AS smallint[]), CAST(:seqs AS bigint[]), CAST(:tokens AS bigint[])) AS d(part, seq, token)"
        " JOIN msgbus_outbox_part q ON q.part = d.part AND q.token = d.token AND q.owner = :owner"
        " WHERE r.part = d.part AND r.seq = d.seq"
    ),
)

SQLITE = Texts(
    now="((julianday('now') - 2440587.5) * 86400.0)",
    take=f"{_TAKE}IN ({_FREE})",
    # One writer at a time: places are committed in their order.
    read=f"""
WITH w(part, floor) AS MATERIALIZED (SELECT CAST(key AS INTEGER), value FROM json_each(:floors))
SELECT 0 AS oldest, 0 AS next, {_READ}, q.token, q.scan
FROM msgbus_outbox r CROSS JOIN w CROSS JOIN msgbus_outbox_part q
WHERE r.seq > :lowest AND w.part = r.part AND r.seq > w.floor AND q.part = r.part AND q.owner = :owner
  AND r.kind || '/' || r.name NOT IN (SELECT value FROM json_each(:skip))
  AND NOT EXISTS ({_BLOCKED})
ORDER BY r.seq LIMIT :limit""",
    done=(
        "DELETE FROM msgbus_outbox AS r WHERE seq IN (SELECT value FROM json_each(:seqs)) AND EXISTS ("
        "SELECT 1 FROM msgbus_outbox_part q WHERE q.part = r.part AND q.owner = :owner"
        " AND q.part || ':' || q.token IN (SELECT value FROM json_each(:held)))"
    ),
)
