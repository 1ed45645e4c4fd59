"""The header `Prefer` (RFC 7240), as far as the gateway heeds it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Preferences", "read_preferences"]

SECONDS = re.compile(r'"?([0-9]{1,9})"?', re.ASCII)


@dataclass(frozen=True, slots=True)
class Preferences:
    """How long the caller will wait in all, in seconds, and what to say in `Preference-Applied`."""

    wait: float
    applied: str | None = None


def read_preferences(headers: Sequence[str], *, default: float, longest: float) -> Preferences:
    """What the caller prefers. What can't be understood is ignored, the first of equal preferences counts, a longer wait is clamped.

    Args:
        headers: every value of the header `Prefer`.
        default: the wait without a preference, in seconds.
        longest: the longest wait, in seconds.
    """
    if not headers:
        return Preferences(default)
    preferences = (part.partition(";")[0].partition("=") for header in headers for part in header.split(","))
    waits = [value.strip() for name, _, value in preferences if name.strip().lower() == "wait"]
    match = SECONDS.fullmatch(waits[0]) if waits else None
    if match is None:
        return Preferences(default)
    wait = min(float(match[1]), longest)
    return Preferences(wait, f"wait={wait:g}")
