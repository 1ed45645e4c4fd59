"""The tokens: sealed at rest, known outside by name only, opened for one send at a time."""

from app.vault.keyring import Keyring, Sealed, load_keyring
from app.vault.own_keys import CHECKPOINT_SIGNING, TICKET_SIGNING, is_made, open_own_key, own_key
from app.vault.registry import HIGHEST_RATE, NewToken, TokenChange, TokenRow, TokenStore, is_value
from app.vault.reseal import KeyUse, Resealing
from app.vault.shelves import check_sealed
from app.vault.vault import Vault

__all__ = [
    "CHECKPOINT_SIGNING",
    "HIGHEST_RATE",
    "TICKET_SIGNING",
    "KeyUse",
    "Keyring",
    "NewToken",
    "Resealing",
    "Sealed",
    "TokenChange",
    "TokenRow",
    "TokenStore",
    "Vault",
    "check_sealed",
    "is_made",
    "is_value",
    "load_keyring",
    "open_own_key",
    "own_key",
]
