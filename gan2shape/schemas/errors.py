"""The one exception that is meant for people."""

from __future__ import annotations


class UserError(ValueError):
    """Something the user can put right; the message is one sentence that says what and how."""
