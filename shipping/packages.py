"""The wheel and the chart's archive, both built offline."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import helm_python as helm

from shipping.product import NAME, ROOT, version

__all__ = ["build_chart", "build_wheel"]


def build_wheel(folder: Path) -> Path:
    """Build the wheel in a folder; its file.

    Raises:
        subprocess.CalledProcessError: it can't be built; standard error says why.
    """
    subprocess.run([sys.executable, "-m", "flit_core.wheel", "--outdir", folder.resolve(), ROOT], check=True)  # noqa: S603 - our own
    return folder / f"{NAME.replace('-', '_')}-{version()}-py3-none-any.whl"


def build_chart(folder: Path) -> Path:
    """Package the chart in a folder, with the image of this version in it; its file.

    Raises:
        helm.HelmError: it is no chart.
    """
    return Path(helm.package(ROOT / "helm", destination=folder, version=version(), app_version=version()))
