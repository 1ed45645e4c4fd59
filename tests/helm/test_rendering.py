"""The chart as a whole: rendered and linted by Helm, and taken by Kubernetes."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from tests.helm.chart import CHART, MATRIX, loaded, rendered

VERSIONS = ["1.31", "1.34", "1.37"]
FOREIGN = {"ServiceMonitor", "PrometheusRule"}
"""Kinds of the Prometheus operator, of which Kubernetes has no schema."""
LONGEST_NAME = "r" * 53
"""The longest that Helm takes."""
LABELS = {"name", "instance", "version", "part-of", "managed-by"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_kubernetes_takes_every_object(values: dict[str, Any], version: str) -> None:
    """No object has a member that this version of Kubernetes doesn't know, or lacks one that it needs."""
    for found in rendered(values):
        if found["kind"] not in FOREIGN:
            assert kubernetes_validate.validate(found, version, strict=True) == version


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_helm_finds_nothing_to_lint(values: dict[str, Any]) -> None:
    """Helm's own linter has nothing to say but that a picture would be nice."""
    report = helm.lint(CHART, values, strict=True)

    assert report["errors"] == []
    assert {found["error"] for found in report["messages"]} <= {"icon is recommended"}


def test_all_kinds_are_there() -> None:
    """With everything on, nothing of what the chart can make is left out but the volume of the embedded mode."""
    kinds = {found["kind"] for found in rendered(MATRIX["everything"])}

    assert kinds == {
        *("Deployment", "Service", "Ingress", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy", "ServiceAccount"),
        *("Job", "ConfigMap", "ServiceMonitor", "PrometheusRule"),
    }


@pytest.mark.parametrize("name", ["demo", LONGEST_NAME])
@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_names_and_labels_fit(values: dict[str, Any], name: str) -> None:
    """Every object's name and labels have 63 letters at most, whatever the release is called, and no two objects share a name."""
    helm.validate_release_name(name)
    found = [(one["kind"], one["metadata"]["name"], one["metadata"]["labels"]) for one in rendered(values, name)]

    assert len({(kind, called) for kind, called, _ in found}) == len(found)
    assert max(len(text) for _, called, labels in found for text in (called, *labels.values())) <= 63


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_every_object_has_the_recommended_labels(values: dict[str, Any]) -> None:
    """Objects carry the labels that Kubernetes recommends, and stand in the release's namespace."""
    for found in rendered(values):
        labels = found["metadata"]["labels"]

        assert {f"app.kubernetes.io/{label}" for label in LABELS} <= labels.keys()
        assert labels["app.kubernetes.io/managed-by"] == "Helm"
        assert found["metadata"]["namespace"] == "prod"


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_selectors_find_the_serving_pods_alone(values: dict[str, Any]) -> None:
    """Whatever selects the pods that serve selects them, and never the migration's."""
    made = rendered(values)
    labels = {one["kind"]: one["spec"]["template"]["metadata"]["labels"] for one in made if one["kind"] in {"Deployment", "Job"}}
    for one in made:
        if one["kind"] in {"Deployment", "Service", "PodDisruptionBudget"}:
            selector = one["spec"]["selector"].get("matchLabels", one["spec"]["selector"])

            assert selector.items() <= labels["Deployment"].items()
            assert "Job" not in labels or not selector.items() <= labels["Job"].items()


def test_the_chart_has_the_products_version() -> None:
    """Chart and image are released under one version."""
    product = tomllib.loads((CHART.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert loaded().metadata["version"] == loaded().metadata["appVersion"] == product["version"]
    assert loaded().metadata["description"] == product["description"]


def test_the_packaged_chart_is_whole(tmp_path: Path) -> None:
    """The archive of a release holds what the folder does, and names the image of its version."""
    archive = helm.package(CHART, destination=tmp_path, version="9.8.7", app_version="9.8.7")
    with helm.Chart.load(archive) as chart:
        made = chart.render(name="demo")

        assert chart.schema == loaded().schema
        assert {one["name"] for one in chart.files} >= {"README.md"}
        assert made.keys() == loaded().render(name="demo").keys()
        assert "image: flxpoint-gateway:9.8.7\n" in made["flxpoint-gateway/templates/deployment.yaml"]


def test_the_schema_is_in_one_form() -> None:
    """Every object of the values is closed, so that a slip of the pen is told and not ignored."""
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    assert schema["properties"].keys() - {"global"} == values.keys()
    assert [path for path in _open_objects(schema) if path not in FREE] == []


FREE = {
    "global",  # Helm's own, for charts that have this one within
    *("affinity", "tolerations", "extraVolumes", "extraVolumeMounts"),  # Kubernetes' own forms, which it checks itself
    *("peers.podSelector", "peers.namespaceSelector"),
}


def _open_objects(schema: dict[str, Any]) -> list[str]:
    def walk(path: str, part: dict[str, Any]) -> list[str]:
        found = [path] if part.get("type") == "object" and "additionalProperties" not in part else []
        for name, inner in part.get("properties", {}).items():
            found += walk(f"{path}.{name}" if path else name, inner)
        return found + (walk(path, part["items"]) if "items" in part else [])

    return walk("", schema) + [path for name, part in schema["definitions"].items() for path in walk(name, part)]
