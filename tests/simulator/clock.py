"""A clock that tests move."""


class Clock:
    """Tells the monotonic seconds it was last set to; sleeping on it moves it on."""

    def __init__(self, now: float = 1000.0) -> None:
        """Begin at `now`."""
        self.now = now

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Move on by `seconds`."""
        self.now += seconds

    async def sleep(self, seconds: float) -> None:
        """Return at once, `seconds` later."""
        self.advance(seconds)
