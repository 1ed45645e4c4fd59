"""What is kept of JWTs that were verified."""

from __future__ import annotations

from app.callers import Jwt
from app.callers.verified import VerifiedJwts


def test_what_was_verified_is_found_by_its_very_bytes() -> None:
    """One letter more is another JWT."""
    verified = VerifiedJwts[int]()
    verified.keep(Jwt("eyJ.e.e"), 1)
    verified.keep(Jwt("eyJ.e.f"), 2)
    verified.keep(Jwt("eyJ.e.f"), 3)

    assert [verified.get(Jwt(text)) for text in ("eyJ.e.e", "eyJ.e.f", "eyJ.e.ee")] == [1, 3, None]


def test_the_oldest_makes_room() -> None:
    """The memory is bounded; what is kept anew counts as new."""
    verified = VerifiedJwts[int](most=3)
    for number in (0, 1, 2, 0, 3):
        verified.keep(Jwt(f"eyJ.{number}.e"), number)

    assert [verified.get(Jwt(f"eyJ.{number}.e")) for number in range(4)] == [0, None, 2, 3]
