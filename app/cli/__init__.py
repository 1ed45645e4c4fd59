"""The command line."""

import gc

__all__ = ["main"]


def main() -> None:
    """Run the command that the arguments name; see `app.cli.program`."""
    # What is imported stays: to look through it again and again was a quarter of each command's start.
    gc.disable()
    from app.cli.program import main as run  # noqa: PLC0415 - so that the collector rests meanwhile

    gc.enable()
    run()
