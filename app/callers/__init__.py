"""Who is calling, and what they may do: keys, grants, roles."""

from app.callers.authentication import Authentication, Verifier
from app.callers.directory import Directory, Known
from app.callers.keys import GatewayKey, make_key
from app.callers.origins import Origins
from app.callers.presented import Jwt, Presented
from app.callers.registry import CallerRow, CallerStore, GrantAsked, KeyRow, NewCaller

__all__ = [
    "Authentication",
    "CallerRow",
    "CallerStore",
    "Directory",
    "GatewayKey",
    "GrantAsked",
    "Jwt",
    "KeyRow",
    "Known",
    "NewCaller",
    "Origins",
    "Presented",
    "Verifier",
    "make_key",
]
