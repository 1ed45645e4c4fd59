"""`make release` and `make image-test` where no image can be built."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shipping import image_test, release
from shipping.product import ROOT, version
from tests.cli.processes import PATIENCE_SECONDS, environment


def tried(**variables: str) -> subprocess.CompletedProcess[str]:
    """How `make image-test` ends where there is no program of any kind."""
    return subprocess.run(
        [sys.executable, "-m", "shipping.image_test"],
        cwd=ROOT,
        env=environment() | {"PATH": "/nonexistent"} | variables,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


@pytest.mark.parametrize(("variables", "status"), [({}, 0), ({image_test.REQUIRED: "1"}, 1)])
def test_what_cant_be_built_is_skipped_with_the_reason(variables: dict[str, str], status: int) -> None:
    """The reason is one line, and a failure where the image is required."""
    ran = tried(**variables)

    assert (ran.returncode, ran.stdout.count("\n")) == (status, 1), ran.stderr
    assert ran.stdout.startswith("skipped: ")


def test_a_release_can_do_without_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Wheel and chart of one version stand in the folder, with nothing of a release before, and are named with their sizes."""
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "of-before").write_bytes(b"")
    monkeypatch.setattr(release, "DIST", tmp_path / "dist")
    monkeypatch.setattr(sys, "argv", ["release", "--without-image"])
    status = release.main()

    names = {f"flxpoint_gateway-{version()}-py3-none-any.whl", f"flxpoint-gateway-{version()}.tgz"}
    said = capfd.readouterr().out
    assert (status, {path.name for path in (tmp_path / "dist").iterdir()}) == (0, names)
    assert all(name in said for name in names)
