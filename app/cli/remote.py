"""What needs the lanes of a running gateway: asked over its socket, or over `GATEWAY_URL` with `GATEWAY_KEY`."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from app.cli.control import control_path, fits
from app.domain import NAME_PATTERN
from app.errors import PROBLEMS, NotFound, StartRefused
from app.settings import PREFIX, load_settings

__all__ = ["lanes_of_running", "master_keys_of_running", "resume_in_running", "tested_by_running"]

URL, KEY = f"{PREFIX}URL", f"{PREFIX}KEY"
PATIENCE_SECONDS = 10.0
TEST_SECONDS = 30.0  # its probes may take 20 s in all, and the record some more


@dataclass(frozen=True, slots=True)
class Way:
    """How the gateway is reached: in words, the address, what its paths begin with, and the socket, if it is one."""

    words: str
    base: str
    prefix: str
    socket: Path | None = None
    headers: dict[str, str] = field(default_factory=dict, repr=False)


def lanes_of_running() -> list[dict[str, Any]]:
    """Every token's lane, as the running gateway reports it.

    Raises:
        StartRefused: no gateway could be asked.
        GatewayError: it refused.
    """
    way = _way()
    answer = _ask(way, "GET", "/lanes")
    if not isinstance(answer, list):
        raise _no_gateway(way, "it answered with no list of lanes")
    return answer


def resume_in_running(token: str) -> list[str]:
    """Close a token's breakers in the running gateway; the operations whose calls were held back.

    Raises:
        StartRefused: no gateway could be asked.
        GatewayError: it refused.
    """
    _check_name(token)
    way = _way()
    answer = _ask(way, "POST", f"/lanes/{token}/resume")
    if not isinstance(answer, dict) or "operations" not in answer:
        raise _no_gateway(way, "it answered with no list of operations")
    return list(answer["operations"])


def tested_by_running(token: str) -> dict[str, Any]:
    """Have the running gateway test a token; what came of it, as the API gives it.

    Raises:
        StartRefused: no gateway could be asked.
        GatewayError: it refused.
    """
    _check_name(token)
    way = _way()
    answer = _ask(way, "POST", f"/tokens/{token}/test", patience=TEST_SECONDS)
    if not isinstance(answer, dict) or "probes" not in answer:
        raise _no_gateway(way, "it answered with no test")
    return answer


def master_keys_of_running() -> list[str] | None:
    """The IDs of the master keys that the gateway of this state folder has; None where none runs.

    Raises:
        StartRefused: one runs, and can't be asked.
    """
    path = control_path(load_settings().state_dir)
    way = Way(str(path), "http://gateway", "", socket=path)
    try:
        _knock(way)
    except StartRefused:
        return None
    return [str(one) for one in _ask(way, "GET", "/master-keys")]


def _check_name(token: str) -> None:
    """Keep what is no name out of an address."""
    if not NAME_PATTERN.fullmatch(token):
        message = "there is no token of that name"
        raise NotFound(message)


def _way() -> Way:
    url = os.environ.get(URL)
    if url:
        return Way(_shown(url), url, "/gateway/admin", headers={"Authorization": f"Bearer {_key()}"})
    path = control_path(load_settings().state_dir)
    if reason := fits(path):
        message = f"{path} can't be a socket, since {reason}: set {URL} and {KEY} to reach the gateway otherwise"
        raise StartRefused(message)
    return Way(str(path), "http://gateway", "", socket=path)


def _shown(url: str) -> str:
    """The address, which may be shown.

    Raises:
        StartRefused: it is none, or holds what must not be shown.
    """
    try:
        address = httpx2.URL(url)
    except httpx2.InvalidURL:
        address = httpx2.URL()
    if address.scheme not in {"http", "https"} or not address.host or address.userinfo:
        message = f"{URL}: should be the gateway's address, such as https://gateway.example:8080, without a user or a password"
        raise StartRefused(message)
    return url


def _key() -> str:
    key = os.environ.get(KEY, "")
    if not key or not (key.isascii() and key.isprintable()) or " " in key:
        message = f"{KEY}: should be the key of a caller with the role admin or auditor, where {URL} is set"
        raise StartRefused(message)
    return key


def _ask(way: Way, method: str, path: str, *, patience: float = PATIENCE_SECONDS) -> Any:  # noqa: ANN401 - JSON
    if way.socket:
        _knock(way)
    transport = httpx2.HTTPTransport(uds=str(way.socket) if way.socket else None, trust_env=False)
    try:
        with httpx2.Client(transport=transport, base_url=way.base, trust_env=False, timeout=patience) as client:
            response = client.request(method, way.prefix + path, headers=way.headers)
    except httpx2.TransportError as error:
        raise _no_gateway(way, str(error) or type(error).__name__) from None
    return _answer(way, response)


def _knock(way: Way) -> None:
    """Find out whether somebody listens at the socket: the HTTP client says less of why not, and leaves a socket open then.

    Raises:
        StartRefused: nobody does.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as knocking:
        knocking.settimeout(PATIENCE_SECONDS)
        try:
            knocking.connect(str(way.socket))
        except OSError as error:
            raise _no_gateway(way, error.strerror or str(error)) from None


def _answer(way: Way, response: httpx2.Response) -> Any:  # noqa: ANN401 - JSON
    """The answer, or the problem raised anew.

    Raises:
        StartRefused, GatewayError
    """
    try:
        answer = response.json()
    except ValueError:
        raise _no_gateway(way, f"it answered {response.status_code} without JSON") from None
    if response.is_success:
        return answer
    code = str(answer.get("type", "")).rpartition("/")[2] if isinstance(answer, dict) else ""
    if code not in PROBLEMS:
        raise _no_gateway(way, f"it answered {response.status_code}")
    raise PROBLEMS[code](str(answer.get("detail", "")))


def _no_gateway(way: Way, reason: str) -> StartRefused:
    hint = "" if way.headers else f"; is `serve` running? {URL} and {KEY} reach one elsewhere"
    return StartRefused(f"no gateway can be asked at {way.words}: {reason}{hint}")
