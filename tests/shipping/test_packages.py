"""The wheel and the chart of a release, built as a release builds them."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from shipping.packages import build_chart, build_wheel
from shipping.product import ROOT, version
from tests.cli.processes import PATIENCE_SECONDS


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built once."""
    return build_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, installed from the wheel where nothing of the repository is, over the packages that these tests run on."""
    home = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    python = home / "bin" / "python"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-compile",
        str(wheel),
    ]
    subprocess.run(pip, check=True, env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    # A path in such a file is searched, but the files of this kind in it, the one for our own repository among them, aren't read.
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return home / "bin" / "flxpoint-gateway"


def ran(program: Path, *arguments: str, folder: Path) -> str:
    """What an installed command prints, in a folder that has nothing to do with the repository; it must end with status 0."""
    done = subprocess.run(
        [program, *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "GATEWAY_STATE_DIR": str(folder / "state")},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_is_whole(wheel: Path) -> None:
    """Every file of the package is in the wheel (scripts for Valkey, migrations), and the catalogue as it stands in `openapi/`."""
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        catalogue = archive.read("app/catalogue/flxpoint.yaml")

    assert held == {path.relative_to(ROOT).as_posix() for path in (ROOT / "app").rglob("*.*") if "__pycache__" not in path.parts}
    assert catalogue == (ROOT / "openapi" / "flxpoint.yaml").read_bytes()


def test_the_installed_program_needs_no_repository(program: Path, tmp_path: Path) -> None:
    """What the wheel installed describes the API, finds nothing amiss, and makes its database, wherever it is run."""
    described = ran(program, "openapi", folder=tmp_path)
    checked = ran(program, "check", "--offline", folder=tmp_path)
    upgraded = ran(program, "db", "upgrade", folder=tmp_path)

    assert described == (ROOT / "openapi" / "gateway.json").read_text(encoding="utf-8")
    assert "failed" not in checked
    assert upgraded.startswith("the database has schema ")
    assert (tmp_path / "state" / "gateway.db").is_file()


def test_wheel_and_chart_have_the_same_version(wheel: Path, tmp_path: Path) -> None:
    """One version, the one in `pyproject.toml`, names the wheel, the chart, and the image that the chart runs."""
    chart = build_chart(tmp_path)

    assert wheel.name == f"flxpoint_gateway-{version()}-py3-none-any.whl"
    assert wheel.is_file()
    assert chart.name == f"flxpoint-gateway-{version()}.tgz"
    with tarfile.open(chart) as archive:
        described = archive.extractfile("flxpoint-gateway/Chart.yaml")
        assert described is not None
        assert f"appVersion: {version()}" in described.read().decode()
