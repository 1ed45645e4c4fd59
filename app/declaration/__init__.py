"""The configuration file: what it declares, read strictly, and tokens and callers brought to it."""

from app.declaration.applying import Applied, apply
from app.declaration.keeper import Keeper
from app.declaration.reading import Declaration, read_declaration
from app.declaration.sources import NotReadable, Sources

__all__ = ["Applied", "Declaration", "Keeper", "NotReadable", "Sources", "apply", "read_declaration"]
