"""Figures, their bounds, and how both are shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Bound", "Details", "Figure", "Report", "percentile"]

Details = Mapping[str, object]
"""What is written to the results beside the figures, as JSON can hold it."""

DIGITS = 4


@dataclass(frozen=True, slots=True)
class Bound:
    """What a figure must keep: at most, or at least, a value in the figure's own unit."""

    sign: Literal["≤", "≥"]
    value: float

    def holds(self, value: float) -> bool:
        """Whether a value keeps the bound."""
        return value <= self.value if self.sign == "≤" else value >= self.value

    def __str__(self) -> str:
        return f"{self.sign} {self.value:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. `unit` is empty for counts and ratios; without a bound it is only reported.

    `beside` says what others reached at the same, in words.
    """

    name: str
    value: float
    unit: str = ""
    bound: Bound | None = None
    beside: str = ""

    @property
    def verdict(self) -> str:
        """`met`, `MISSED`, or nothing where there is no bound."""
        if self.bound is None:
            return ""
        return "met" if self.bound.holds(self.value) else "MISSED"

    def line(self) -> str:
        """The figure as a line for people."""
        bound = f"bound {self.bound}" if self.bound else "no bound"
        return f"  {self.name:<72} {self.value:>10,.6g} {self.unit:<4} {bound:<14} {self.verdict:<6}  {self.beside}".rstrip()

    def members(self) -> dict[str, object]:
        """The figure for programs; the value to four digits behind the point."""
        members: dict[str, object] = {"name": self.name, "value": round(self.value, DIGITS), "unit": self.unit}
        members |= {"bound": str(self.bound), "verdict": self.verdict} if self.bound else {}
        return members | ({"beside": self.beside} if self.beside else {})


@dataclass(frozen=True, slots=True)
class Report:
    """What one benchmark found: its figures, remarks for people, and details for programs."""

    title: str
    figures: Sequence[Figure]
    remarks: Sequence[str] = ()
    details: Details = field(default_factory=dict)

    @property
    def missed(self) -> int:
        """How many figures missed their bound."""
        return sum(figure.verdict == "MISSED" for figure in self.figures)

    def text(self) -> str:
        """The report for people."""
        return "\n".join([self.title, *(figure.line() for figure in self.figures), *(f"  {remark}" for remark in self.remarks), ""])

    def members(self) -> dict[str, object]:
        """The report for programs."""
        figures = [figure.members() for figure in self.figures]
        return {"title": self.title, "figures": figures, "remarks": list(self.remarks), "details": self.details}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of the values don't exceed (nearest rank).

    Raises:
        ValueError: there are no values.
    """
    if not values:
        message = "no values, so no percentile"
        raise ValueError(message)
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
