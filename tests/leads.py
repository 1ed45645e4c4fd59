"""A lead that a test gives and takes."""

from __future__ import annotations

__all__ = ["Appointed"]


class Appointed:
    """Leads or doesn't, as it is told; `asked` counts how often somebody wanted to know."""

    def __init__(self) -> None:
        self.term = 0
        self.asked = 0
        self._leads = False

    @property
    def leads(self) -> bool:
        """Whether it leads."""
        self.asked += 1
        return self._leads

    def appoint(self) -> None:
        """Lead from now on."""
        self.term += 1
        self._leads = True

    def dismiss(self) -> None:
        """Lead no more."""
        self._leads = False

    async def was_asked(self) -> bool:
        """Whether somebody asked, found that it doesn't lead, and asked again."""
        return self.asked > 1
