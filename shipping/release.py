"""`make release`: wheel, chart and image of one version, into `dist/`."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from shipping.images import Images
from shipping.packages import build_chart, build_wheel
from shipping.product import NAME, ROOT, version
from shipping.tools import NotAvailable, need_tools
from shipping.trial import look_into

__all__ = ["main"]

DIST = ROOT / "dist"


def main() -> int:
    """Build all three, in a folder that is made anew; status 1 where the image can't be built, unless it isn't wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--without-image", action="store_true", help="build wheel and chart alone, which needs no root")
    wanted = parser.parse_args()
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    made = [build_wheel(DIST), build_chart(DIST)]
    if not wanted.without_image:
        try:
            made.append(_image())
        except NotAvailable as reason:
            print(f"no image: {reason}", file=sys.stderr)
            return 1
    print("\n".join(f"{path.name}  {path.stat().st_size / 1e6:.1f} MB" for path in made))
    return 0


def _image() -> Path:
    need_tools()
    archive = DIST / f"{NAME}-image-{version()}.tar"
    with tempfile.TemporaryDirectory(prefix="flxpoint-gateway-image-") as folder:
        images = Images(Path(folder))
        base = images.base()
        images.build(base)
        look_into(images, base)
        images.save(archive)
    return archive


if __name__ == "__main__":
    sys.exit(main())
