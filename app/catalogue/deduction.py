"""What kind a token can be, by which probes Flxpoint takes it for. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from app.domain import Operation, TokenKind

__all__ = ["Deduction"]


class Deduction:
    """Narrows a token's kind down, answer by answer.

    The kinds that an operation accepts are those that Flxpoint publishes: a token that it takes is of one of them, one that it refuses with
    401 or 403 is of another kind, or no good at all.

    Args:
        on_file: the kind that the token is said to have; its own probe is asked first.
        probes: the operations that may be asked.
    """

    def __init__(self, on_file: TokenKind, probes: Iterable[Operation]) -> None:
        self._left = sorted(probes, key=lambda probe: on_file not in probe.probes)
        self._on_file = on_file
        self.kinds = frozenset(TokenKind)
        self.accepted = False

    def next(self) -> Operation | None:
        """The probe to ask now; None where none would tell anything more."""
        return next((probe for probe in self._left if self._tells(probe)), None)

    def learn(self, probe: Operation, *, accepted: bool) -> None:
        """Flxpoint took the token for this probe, or refused it for the token's sake."""
        self._left.remove(probe)
        self.accepted = self.accepted or accepted
        self.kinds = self.kinds & probe.token_kinds if accepted else self.kinds - probe.token_kinds

    @property
    def seems(self) -> TokenKind | None:
        """The one kind that fits all answers; None where several do, none does, or nothing was taken yet."""
        return next(iter(self.kinds)) if self.accepted and len(self.kinds) == 1 else None

    @property
    def agrees(self) -> bool | None:
        """Whether that is the kind on file; None where the answers don't tell."""
        if self._on_file not in self.kinds:
            return False if self.accepted else None
        return True if self.seems else None

    def _tells(self, probe: Operation) -> bool:
        """Until one was taken, any that could be; from then on those that tell the kinds apart that are left."""
        could_be = self.kinds & probe.token_kinds
        return bool(could_be) and (not self.accepted or could_be != self.kinds)
