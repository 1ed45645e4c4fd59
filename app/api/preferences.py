"""The header `Prefer` (RFC 7240), as far as the gateway heeds it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Preferences", "read_preferences"]

RESPOND_ASYNC = "respond-async"
SECONDS = re.compile(r'"?([0-9]{1,9})"?', re.ASCII)


@dataclass(frozen=True, slots=True)
class Preferences:
    """How long the caller will wait in all, in seconds, and what to say in `Preference-Applied` of an answer that came in this time.

    `respond_async`: what has no answer by then is answered with a job that goes on; the wait is none then, unless it is asked for too.
    """

    wait: float
    applied: str | None = None
    respond_async: bool = False

    @property
    def applied_later(self) -> str:
        """What to say in `Preference-Applied` of an answer that is a job."""
        return f"{RESPOND_ASYNC}, {self.applied}" if self.applied else RESPOND_ASYNC


def read_preferences(headers: Sequence[str], *, default: float, longest: float) -> Preferences:
    """What the caller prefers. What can't be understood is ignored, the first of equal preferences counts, a longer wait is clamped.

    Args:
        headers: every value of the header `Prefer`.
        default: the wait without a preference, in seconds.
        longest: the longest wait, in seconds.
    """
    if not headers:
        return Preferences(default)
    parts = (part.partition(";")[0].partition("=") for header in headers for part in header.split(","))
    given = [(name.strip().lower(), value.strip()) for name, _, value in parts]
    respond_async = any(value in {"", '""'} for name, value in given if name == RESPOND_ASYNC)
    match = next((SECONDS.fullmatch(value) for name, value in given if name == "wait"), None)
    if match is None:
        return Preferences(0 if respond_async else default, respond_async=respond_async)
    wait = min(float(match[1]), longest)
    return Preferences(wait, f"wait={wait:g}", respond_async)
