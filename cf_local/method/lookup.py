"""Prompt look-up: what followed the same words before, as a leader that costs nothing.

Answers repeat names, numbers and phrases of the prompt and of themselves. The text that followed
the longest earlier occurrence of the last bytes is often what comes next. Bytes, not tokens:
sources share no vocabulary.
"""

_KEYS = (32, 24, 16, 12, 8, 6, 4, 3, 2)  # bytes of context to look for, longest first
_LONGEST = 65_536  # bytes remembered
END_OF_TEXT = b"\0"
"""Nothing is proposed across it."""


class LookUp:
    """Text seen so far, and what may follow it."""

    def __init__(self) -> None:
        self._text = bytearray()

    def begin(self, prompt: str) -> None:
        """A new answer begins after ``prompt``."""
        self._text = bytearray(prompt.encode()[-_LONGEST:] + END_OF_TEXT)

    def append(self, segment: bytes) -> None:
        """The response has grown."""
        self._text += segment

    def propose(self, ahead: bytes, n_bytes: int) -> tuple[bytes, int]:
        """Up to ``n_bytes`` that may follow the response and ``ahead``; empty if unheard of.

        The longer the key it was found by, the likelier it is: its length comes with it.
        """
        tail = bytes(self._text[-_KEYS[0] :]) + ahead
        for n_key in _KEYS:
            key = tail[-n_key:]
            if len(key) < n_key or END_OF_TEXT in key:
                continue
            start = self._text.rfind(key, 0, len(self._text) - 1)
            if start >= 0:
                found = bytes(self._text[start + n_key : start + n_key + n_bytes])
                return found.partition(END_OF_TEXT)[0], n_key
        return b"", 0
