"""Two names become one name of the server's, and not the one that two others become."""

from __future__ import annotations

import hashlib


def joined(topic: str, group: str, separator: str, dead: str) -> str:
    """TOPIC, separator, GROUP; with a hash behind it where that could be read in another way.

    So it is where a part has the separator in it or at its edge, or where the name ends as those of dead letters do
    (`dead`).
    """
    name = f"{topic}{separator}{group}"
    edge = separator[0]
    is_plain = separator not in topic and separator not in group and not name.endswith(dead)
    if is_plain and not topic.endswith(edge) and not group.startswith(edge):
        return name
    return f"{name}-{hashlib.sha256(f'{topic}/{group}'.encode()).hexdigest()[:10]}"
