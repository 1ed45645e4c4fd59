"""The tokens a simulator knows."""

import pytest

from app.simulator.tokens import SimulatedToken, Tokens


def test_a_tokens_value_is_not_in_its_repr() -> None:
    """A logged token doesn't show its value."""
    token = SimulatedToken("main", "a-secret-value", "account")

    assert "a-secret-value" not in repr(token)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [("", "v", "source"), ("n", "", "source"), ("n", "two words", "source"), ("n", "naïve", "source"), ("n", "v", "x")],
)
def test_a_token_that_no_request_could_present_is_refused(name: str, value: str, kind: str) -> None:
    """A token needs a name, a value that fits a header, and one of the three kinds."""
    with pytest.raises(ValueError, match=r"needs a name|must be account, source or channel"):
        SimulatedToken(name, value, kind)


@pytest.mark.parametrize(("name", "value"), [("main", "other"), ("other", "value")])
def test_two_tokens_may_not_share_a_name_or_a_value(name: str, value: str) -> None:
    """Statistics are by name and requests by value, so both must be unique."""
    tokens = [SimulatedToken("main", "value", "account"), SimulatedToken(name, value, "source")]

    with pytest.raises(ValueError, match="must differ"):
        Tokens(tokens)


@pytest.mark.parametrize(
    "headers",
    [[], [(b"x-api-token", b"unknown")], [(b"x-api-token", b"value"), (b"x-api-token", b"value")]],
)
def test_a_missing_unknown_or_repeated_header_presents_no_token(headers: list[tuple[bytes, bytes]]) -> None:
    """Only one X-API-TOKEN header with a known value presents a token."""
    tokens = Tokens([SimulatedToken("main", "value", "account")])

    assert tokens.presented(headers) is None
    assert tokens.presented([(b"x-api-token", b"value")]) is not None
