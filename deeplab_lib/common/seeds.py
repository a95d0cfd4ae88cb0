"""Where every random choice of a run comes from."""

import hashlib


def key(*parts: object) -> int:
    """A 63-bit seed from any parts, such as (seed, "order", epoch)."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
