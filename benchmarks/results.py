"""What is written to `results.json`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.figures import Details, Report

__all__ = ["APART", "merged"]

APART = frozenset({"history"})
"""Those that take so long that they are run by name only; each has the conditions of its run beside its figures."""


def merged(earlier: Mapping[str, Any], conditions: Details, reports: Mapping[str, Report]) -> dict[str, Any]:
    """The results of a run, and of an earlier one those that this one didn't find.

    Args:
        earlier: what was written before; may be empty.
        conditions: those of this run.
        reports: what it found.
    """
    found = {name: report.members() | ({"conditions": conditions} if name in APART else {}) for name, report in reports.items()}
    known = {name: value for name, value in earlier.items() if name != "benchmarks"}
    return {**(known if known and APART.issuperset(reports) else conditions), "benchmarks": earlier.get("benchmarks", {}) | found}
