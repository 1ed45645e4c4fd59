"""Under which licence the product is, and what is told of its changes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LICENCE = (ROOT / "LICENSE").read_text(encoding="utf-8")
CHANGES = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
SECTIONS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_package_chart_and_file_name_one_licence() -> None:
    """Whoever looks at one of them isn't told otherwise by another."""
    chart = yaml.safe_load((ROOT / "helm" / "Chart.yaml").read_text(encoding="utf-8"))

    assert PROJECT["license"] == chart["annotations"]["artifacthub.io/license"] == "Apache-2.0"
    assert re.search(r"Apache License\s+Version 2\.0, January 2004", LICENCE)


def test_the_image_is_built_with_all_that_the_package_names() -> None:
    """A file that isn't copied in, or that is ignored, would end the image's build."""
    copied = re.findall(r"^COPY (.+) \./$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    let_in = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()

    for file in (PROJECT["readme"], *PROJECT["license-files"]):
        assert file in " ".join(copied).split()
        assert f"!{file}" in let_in


def test_changes_are_in_the_form_that_they_say() -> None:
    """What isn't released stands first, each version once, under the headings of Keep a Changelog."""
    versions = re.findall(r"^## \[(.+?)\]", CHANGES, re.MULTILINE)

    assert versions[0] == "Unreleased"
    assert len(set(versions)) == len(versions)
    assert set(re.findall(r"^### (.+)$", CHANGES, re.MULTILINE)) <= SECTIONS
