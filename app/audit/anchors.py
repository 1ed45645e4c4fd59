"""Anchors: checkpoints kept elsewhere, one a line."""

from __future__ import annotations

import base64

from app.audit.canonical import canonical
from app.audit.seals import Seal

__all__ = ["anchor_line"]


def anchor_line(seal: Seal) -> str:
    """A checkpoint as it is kept elsewhere: JSON with its `body`, as a string, and its `signature`, in base64; without a line's end."""
    return canonical({"body": seal.body, "signature": base64.b64encode(seal.signature).decode()}).decode()
