"""Who is calling, and what they may do: keys, JWTs, tickets, origins, grants, roles."""

from app.callers.authentication import Authentication, Verifier
from app.callers.directory import Directory, Known
from app.callers.expiry import parse_duration, parse_end
from app.callers.hashed import HashedKey, HashedKeyStore, parse_hashed
from app.callers.identity import IdentityProvider
from app.callers.keyrows import KeyRow
from app.callers.keys import GatewayKey, make_key, parse_key
from app.callers.networks import client_address, neighbourhood
from app.callers.origins import Origins
from app.callers.presented import Jwt, Presented
from app.callers.provider import ProviderKeys
from app.callers.registry import HEAVIEST, LONGEST_CLAIM, CallerRow, CallerStore, GrantAsked, NewCaller
from app.callers.ticket_key import TicketKey
from app.callers.ticket_terms import TicketAsked, check_ids, draw_up
from app.callers.ticket_verifier import TicketVerifier
from app.callers.uses import KeyUses

__all__ = [
    "HEAVIEST",
    "LONGEST_CLAIM",
    "Authentication",
    "CallerRow",
    "CallerStore",
    "Directory",
    "GatewayKey",
    "GrantAsked",
    "HashedKey",
    "HashedKeyStore",
    "IdentityProvider",
    "Jwt",
    "KeyRow",
    "KeyUses",
    "Known",
    "NewCaller",
    "Origins",
    "Presented",
    "ProviderKeys",
    "TicketAsked",
    "TicketKey",
    "TicketVerifier",
    "Verifier",
    "check_ids",
    "client_address",
    "draw_up",
    "make_key",
    "neighbourhood",
    "parse_duration",
    "parse_end",
    "parse_hashed",
    "parse_key",
]
