"""What may be in a stream, for properties."""

from hypothesis import settings
from hypothesis import strategies as st

from msgbus.brokers.kinesis.aggregation import UserRecord
from msgbus.brokers.kinesis.hashing import HIGHEST, Shard

UNHURRIED = settings(max_examples=60)
"""Fewer examples: each is dear."""

KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
TAGS = st.lists(st.tuples(KEYS, st.text(st.characters(codec="utf-8"), max_size=5)), max_size=2).map(tuple)
HASHES = st.integers(0, HIGHEST)
USER_RECORDS = st.builds(UserRecord, KEYS, st.binary(max_size=60), st.one_of(st.just(""), HASHES.map(str)), TAGS)


@st.composite
def lineages(draw: st.DrawFn) -> list[Shard]:
    """A stream's shards after some splits and merges: the open ones cover every hash key once."""
    count = draw(st.integers(1, 4))
    edges = [HIGHEST * place // count + (place > 0) for place in range(count)] + [HIGHEST + 1]
    shards = [Shard(f"s{place}", edges[place], edges[place + 1] - 1) for place in range(count)]
    opened = list(range(count))
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, len(opened) - 1))
        old = shards[opened[at]]
        if draw(st.booleans()) and old.last > old.first:
            middle = (old.first + old.last + 1) // 2
            shards.append(Shard(f"s{len(shards)}", old.first, middle - 1, (old.id,)))
            shards.append(Shard(f"s{len(shards)}", middle, old.last, (old.id,)))
            opened[at : at + 1] = [len(shards) - 2, len(shards) - 1]
        elif at + 1 < len(opened):
            other = shards[opened[at + 1]]
            shards.append(Shard(f"s{len(shards)}", old.first, other.last, (old.id, other.id)))
            opened[at : at + 2] = [len(shards) - 1]
    still = {shards[place].id for place in opened}
    return [Shard(each.id, each.first, each.last, each.parents, each.id not in still) for each in shards]
