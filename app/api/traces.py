"""The trace that a request belongs to, as its caller says in `traceparent` (W3C Trace Context). Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["trace_id_of"]

TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?P<later>-.*)?", re.ASCII)
FIRST_VERSION = "00"


def trace_id_of(values: Sequence[str]) -> str | None:
    """The trace's ID, 32 hex digits; None where the header is absent, repeated or not valid (then it is ignored, section 3.2.2).

    Later versions of the standard may add members at the end; version 00 has none.
    """
    if len(values) != 1:
        return None
    found = TRACEPARENT.fullmatch(values[0].strip(" \t"))
    if found is None or (found["later"] and values[0].lstrip(" \t").startswith(FIRST_VERSION)):
        return None
    return found[1]
