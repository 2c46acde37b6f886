"""Words from outside in messages: which known one was meant, and how much of one is shown. Pure.

Both are bounded, whatever the word: the comparison takes time with the square of its length, and a message is kept in
logs, statuses and terminals.
"""

from collections.abc import Collection
from difflib import get_close_matches
from typing import Final

WORD_CHARS: Final = 80
"""A longer word cannot be a misspelling of one of ours: the longest of those is half as long."""

SHOWN_CHARS: Final = 120


def nearest(word: str, known: Collection[str]) -> str:
    """The known word that was probably meant, "" for none."""
    return next(iter(get_close_matches(word, known, n=1)), "") if len(word) <= WORD_CHARS else ""


def cut(text: str, limit_chars: int = SHOWN_CHARS) -> str:
    """The text, or its beginning and three dots."""
    return text if len(text) <= limit_chars else text[: limit_chars - 3] + "..."
