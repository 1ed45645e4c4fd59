"""Who is calling, and what they may do: keys, grants, roles."""

from app.callers.directory import Directory
from app.callers.keys import GatewayKey, make_key
from app.callers.registry import CallerRow, CallerStore, GrantAsked, NewCaller

__all__ = ["CallerRow", "CallerStore", "Directory", "GatewayKey", "GrantAsked", "NewCaller", "make_key"]
