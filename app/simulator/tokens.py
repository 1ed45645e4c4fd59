"""The tokens a simulated upstream knows."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

ACCOUNT = "account"
SOURCE = "source"
CHANNEL = "channel"
KINDS = frozenset({ACCOUNT, SOURCE, CHANNEL})


@dataclass(frozen=True, slots=True)
class SimulatedToken:
    """A token by its name, the value callers present, and its kind: account, source or channel.

    Raises:
        ValueError: the name is empty, the value isn't visible ASCII, or the kind isn't one of the three.

    """

    name: str
    value: str = field(repr=False)
    kind: str

    def __post_init__(self) -> None:
        """Refuse what no request could ever present."""
        if not self.name or not re.fullmatch(r"[!-~]+", self.value):
            msg = "a simulated token needs a name, and a value of visible ASCII characters"
            raise ValueError(msg)
        if self.kind not in KINDS:
            msg = f"token {self.name!r} has kind {self.kind!r}; it must be account, source or channel"
            raise ValueError(msg)


class Tokens:
    """The known tokens, found by the value a request presents.

    Raises:
        ValueError: two tokens share a name or a value.

    """

    def __init__(self, tokens: Iterable[SimulatedToken]) -> None:
        """Index `tokens` by value, keeping their order."""
        self._tokens = tuple(tokens)
        self._by_value = {token.value: token for token in self._tokens}
        self.names = frozenset(token.name for token in self._tokens)
        if len(self.names) < len(self._tokens) or len(self._by_value) < len(self._tokens):
            msg = "simulated tokens must differ in name and in value"
            raise ValueError(msg)

    def presented(self, headers: Iterable[tuple[bytes, bytes]]) -> SimulatedToken | None:
        """Return the token in the one `X-API-TOKEN` header, or None when it is missing, repeated or unknown."""
        values = [value for name, value in headers if name == b"x-api-token"]
        return self._by_value.get(values[0].decode("latin-1")) if len(values) == 1 else None

    def listing(self) -> list[dict[str, str]]:
        """Return the name and kind of each token, never its value."""
        return [{"name": token.name, "kind": token.kind} for token in self._tokens]
