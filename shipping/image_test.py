"""`make image-test`: builds the image and tries it, in a temporary folder."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from shipping.images import Images
from shipping.tools import NotAvailable, need_tools
from shipping.trial import look_into, try_out

__all__ = ["main"]

REQUIRED = "REQUIRE_IMAGE"


def main() -> int:
    """Build and try; status 0 also where no image can be built, unless REQUIRE_IMAGE is set."""
    try:
        need_tools()
    except NotAvailable as reason:
        print(f"skipped: {reason}")
        return 1 if os.environ.get(REQUIRED) else 0
    with tempfile.TemporaryDirectory(prefix="flxpoint-gateway-image-") as folder:
        images = Images(Path(folder))
        base = images.base()
        images.build(base)
        look_into(images, base)
        try_out(images, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
