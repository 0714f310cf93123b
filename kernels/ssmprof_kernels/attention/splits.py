"""Into how many parts a decode attention cuts its cache: arithmetic on shapes, no torch.

Promises: pure functions of the number of programs, the room of the cache and the device, so that a
captured graph keeps its grid while the cached lengths grow.
"""

from __future__ import annotations

_MAX_SPLITS = 512

_counts: dict[tuple[float, ...], int] = {}


def split_count(
    programs: int, span: int, block_n: int, slots: int, min_tiles: int, efficiency: float
) -> int:
    """`splits` for a cache with room for `span` tokens in tiles of `block_n`; cached."""
    # The bucket's upper end, not the raw capacity, so that caches of similar room share a binary.
    bucket = min(1 << (span - 1).bit_length(), 1 << 20) if span > 1 else 1
    key = (programs, bucket, block_n, slots, min_tiles, efficiency)
    count = _counts.get(key)
    if count is None:
        count = _counts[key] = splits(programs, -(-bucket // block_n), slots, min_tiles, efficiency)
    return count


def splits(programs: int, tiles: int, slots: int, min_tiles: int, efficiency: float = 0.85) -> int:
    """How many parts a cache is cut into.

    Args:
        programs: row and KV head pairs, each at least one program.
        tiles: tiles of the longest cache that fits.
        slots: programs the device holds at once.
        min_tiles: tiles that a part has at least.
        efficiency: how close to the best wave efficiency a smaller count must come to be taken.

    Returns:
        1 when programs fill the device or the cache is short; else the smallest count whose waves
        are filled to at least `efficiency` of what the best count reaches.
    """
    if programs >= slots or tiles <= 2 * min_tiles:
        return 1
    most = max(1, min(_MAX_SPLITS, tiles // min_tiles, -(-slots // programs)))

    def filled(n: int) -> float:
        waves = programs * n / slots
        return waves / -(-programs * n // slots)

    bar = efficiency * max(filled(n) for n in range(1, most + 1))
    return next(n for n in range(1, most + 1) if filled(n) >= bar)
