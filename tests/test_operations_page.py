"""docs/operations.md, held to the chart, to the code and to the pages that it leads to."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.helm.chart import MATRIX, named

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGE = (DOCS / "operations.md").read_text(encoding="utf-8")


def reasons() -> set[str]:
    """Why a gateway isn't ready, as it says itself, but for its end."""
    tree = ast.parse((ROOT / "app" / "house.py").read_text(encoding="utf-8"))
    (method,) = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "reasons")
    (states,) = (node for node in ast.walk(method) if isinstance(node, ast.Dict))
    return {ast.literal_eval(key) for key in states.keys if key} - {"shutting down"}


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_every_alert_of_the_chart_is_explained() -> None:
    """Whoever is woken finds what it means, and none that the chart no longer has."""
    rules = [rule for values in MATRIX.values() for one in named("PrometheusRule", values) for rule in one["spec"]["groups"][0]["rules"]]

    assert {rule["alert"] for rule in rules} == set(re.findall(r"^\| `(FlxpointGateway\w+)` \|", PAGE, re.MULTILINE))


def test_every_reason_for_not_being_ready_is_explained() -> None:
    """What `/gateway/health/ready` says can be looked up."""
    assert [reason for reason in reasons() if f"`{reason}`" not in PAGE] == []


def test_its_links_lead_somewhere() -> None:
    """A page that is moved, or a heading that is renamed, is noticed."""
    for file, heading in re.findall(r"\]\(([\w./-]*)#?([\w-]*)\)", PAGE):
        text = (DOCS / file).read_text(encoding="utf-8") if file else PAGE

        assert not heading or heading in {slug(one) for one in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}, (file, heading)
