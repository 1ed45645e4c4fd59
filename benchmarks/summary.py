"""All bounds of a run in one table, each beside what the peers reached at the same. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.figures import Report

__all__ = ["summary"]


def summary(reports: Mapping[str, Report]) -> str:
    """The table for people: every figure that has a bound, or stands beside one as its measure."""
    lines = ["in short"]
    for name, report in reports.items():
        figures = [figure for figure in report.figures if figure.bound or figure.beside]
        lines += [f"{name:<11}{figure.line()}" for figure in figures]
    return "\n".join(lines)
