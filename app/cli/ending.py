"""How a command ends that a signal tells to."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["ended_in_order"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Meanwhile each of these signals ends the command as an exception does, so that nothing half is left, with the status of a shell.

    So also while the event loop runs: its own handling of Ctrl-C would let a write into a full pipe go on. A signal that is ignored, as
    `nohup` has it, stays so.

    Raises:
        SystemExit: 130, 143 or 129.
    """
    before = {number: signal.signal(number, _end) for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)
