"""Recognizes an answer that has fallen into a loop, so that it can be ended."""

MIN_REPEATS = 8
MIN_BYTES = 240  # a table's rule or a row of dashes is shorter
MAX_PERIOD_BYTES = 512


def is_looping(response: bytes) -> bool:
    """Whether the end of ``response`` is one unit over and over: at least 8 times and 240 bytes."""
    last = response[-1:]
    for period in range(1, min(MAX_PERIOD_BYTES, len(response) // MIN_REPEATS) + 1):
        if response[-1 - period : -period] != last:
            continue
        n_bytes = max(MIN_REPEATS * period, MIN_BYTES)
        if n_bytes <= len(response):
            tail = response[-n_bytes:]
            if tail[period:] == tail[:-period]:
                return True
    return False
