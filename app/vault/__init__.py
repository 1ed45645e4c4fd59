"""The tokens: sealed at rest, known outside by name only, opened for one send at a time."""

from app.vault.keyring import Keyring, load_keyring
from app.vault.own_keys import CHECKPOINT_SIGNING, TICKET_SIGNING, own_key
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
    "TokenChange",
    "TokenRow",
    "TokenStore",
    "Vault",
    "check_sealed",
    "is_value",
    "load_keyring",
    "own_key",
]
