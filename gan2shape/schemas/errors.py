"""The exceptions that are meant for people."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Something the user can put right; the message is one sentence that says what and how."""


class ConfigError(UserError):
    """A setting is unknown, misspelt or out of range; the message is one sentence for people."""


def nearest(word: str, known: Iterable[str]) -> str:
    """ "; the nearest is 'x'" with the known word that is most like `word`, or nothing."""
    found = get_close_matches(word, list(known), n=1)
    return f"; the nearest is {found[0]!r}" if found else ""
