"""What needs a running gateway: asked over its socket, or over `GATEWAY_URL` with `GATEWAY_KEY`."""

from __future__ import annotations

import os
import re
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx2

from app.cli.control import control_path, fits
from app.domain import NAME_PATTERN
from app.errors import PROBLEMS, NotFound, StartRefused
from app.settings import PREFIX, load_settings

__all__ = [
    "Way",
    "answer_of",
    "caller_client",
    "cancelled_by_running",
    "check_job_id",
    "code_of",
    "job_of_running",
    "jobs_of_running",
    "lanes_of_running",
    "master_keys_of_running",
    "no_gateway",
    "resume_in_running",
    "tested_by_running",
    "way_of_caller",
]

URL, KEY = f"{PREFIX}URL", f"{PREFIX}KEY"
PATIENCE_SECONDS = 10.0
TEST_SECONDS = 30.0  # its probes may take 20 s in all, and the record some more
BATCH_SECONDS = 60.0  # what a batch of 2 MB may take
CALLERS = "/gateway"
MOST_IN_PAGE = 200
OPERATORS = "/gateway/admin"
WITH_ROLE = "a caller with the role admin or auditor"
ID_PATTERN = re.compile(r"[0-9a-z-]{1,64}", re.ASCII)


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
        raise no_gateway(way, "it answered with no list of lanes")
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
        raise no_gateway(way, "it answered with no list of operations")
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
        raise no_gateway(way, "it answered with no test")
    return answer


def jobs_of_running(limit: int, state: str | None) -> list[dict[str, Any]]:
    """The newest jobs, in one state or in any, newest first: over the socket all callers', over the address those of the key's.

    Raises:
        StartRefused: no gateway could be asked.
        GatewayError: it refused.
    """
    way = _way_to_jobs()
    found: list[dict[str, Any]] = []
    wanted = {"state": state} if state else {}
    cursor: str | None = None
    while len(found) < limit:
        asked = wanted | {"limit": str(min(limit - len(found), MOST_IN_PAGE))} | ({"cursor": cursor} if cursor else {})
        page = _ask(way, "GET", f"/jobs?{urlencode(asked)}")
        if not isinstance(page, dict) or not isinstance(page.get("jobs"), list):
            raise no_gateway(way, "it answered with no list of jobs")
        found += page["jobs"]
        cursor = page.get("next")
        if not cursor:
            break
    return found


def job_of_running(job_id: str) -> dict[str, Any]:
    """A job as it is now.

    Raises:
        StartRefused: no gateway could be asked.
        GatewayError: it refused.
    """
    return _job("GET", job_id)


def cancelled_by_running(job_id: str) -> dict[str, Any]:
    """Have nothing more of a job sent; the job.

    Raises:
        StartRefused: no gateway could be asked.
        GatewayError: it refused.
    """
    return _job("DELETE", job_id)


def way_of_caller() -> Way:
    """The way to the gateway that the environment names, as a caller of it.

    Raises:
        StartRefused: it names none.
    """
    url = os.environ.get(URL)
    if not url:
        message = f"{URL}: should be the gateway's address, such as https://gateway.example:8080, and {KEY} a caller's key"
        raise StartRefused(message)
    return _way_over(url, CALLERS, "a caller")


def caller_client(way: Way) -> httpx2.Client:
    """A client that goes this way."""
    return httpx2.Client(transport=_transport(way), base_url=way.base, headers=way.headers, trust_env=False, timeout=BATCH_SECONDS)


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


def check_job_id(text: str) -> None:
    """Keep what is no job's ID out of addresses, and out of what is printed.

    Raises:
        NotFound
    """
    if not ID_PATTERN.fullmatch(text):
        message = "there is no job of that ID"
        raise NotFound(message)


def _job(method: str, job_id: str) -> dict[str, Any]:
    check_job_id(job_id)
    way = _way_to_jobs()
    answer = _ask(way, method, f"/jobs/{job_id}")
    if not isinstance(answer, dict) or "state" not in answer:
        raise no_gateway(way, "it answered with no job")
    return answer


def _way() -> Way:
    url = os.environ.get(URL)
    return _way_over(url, OPERATORS, WITH_ROLE) if url else _way_over_socket()


def _way_to_jobs() -> Way:
    return way_of_caller() if os.environ.get(URL) else _way_over_socket()


def _way_over(url: str, prefix: str, whose: str) -> Way:
    return Way(_shown(url), url, prefix, headers={"Authorization": f"Bearer {_key(whose)}"})


def _way_over_socket() -> Way:
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


def _key(whose: str) -> str:
    key = os.environ.get(KEY, "")
    if not key or not (key.isascii() and key.isprintable()) or " " in key:
        message = f"{KEY}: should be the key of {whose}, where {URL} is set"
        raise StartRefused(message)
    return key


def _ask(way: Way, method: str, path: str, *, patience: float = PATIENCE_SECONDS) -> Any:  # noqa: ANN401 - JSON
    if way.socket:
        _knock(way)
    try:
        with httpx2.Client(transport=_transport(way), base_url=way.base, trust_env=False, timeout=patience) as client:
            response = client.request(method, way.prefix + path, headers=way.headers)
    except httpx2.TransportError as error:
        raise no_gateway(way, str(error) or type(error).__name__) from None
    return answer_of(way, response)


def _transport(way: Way) -> httpx2.HTTPTransport:
    """No proxy of the environment's gets a key, but `SSL_CERT_FILE` says whom to trust: OpenSSL heeds it, the HTTP client wouldn't."""
    if way.socket:
        return httpx2.HTTPTransport(uds=str(way.socket), verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), trust_env=False)
    return httpx2.HTTPTransport(verify=ssl.create_default_context(), trust_env=False)


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
            raise no_gateway(way, error.strerror or str(error)) from None


def answer_of(way: Way, response: httpx2.Response) -> Any:  # noqa: ANN401 - JSON
    """The answer, or the problem raised anew.

    Raises:
        StartRefused, GatewayError
    """
    try:
        answer = response.json()
    except ValueError:
        raise no_gateway(way, f"it answered {response.status_code} without JSON") from None
    if response.is_success:
        return answer
    code = code_of(answer)
    if code not in PROBLEMS:
        raise no_gateway(way, f"it answered {response.status_code}")
    raise PROBLEMS[code](str(answer.get("detail", "")))


def code_of(problem: object) -> str:
    """A problem's code; empty where it is none."""
    return str(problem.get("type", "")).rpartition("/")[2] if isinstance(problem, dict) else ""


def no_gateway(way: Way, reason: str) -> StartRefused:
    """That nobody is there who could be asked, and why."""
    hint = "" if way.headers else f"; is `serve` running? {URL} and {KEY} reach one elsewhere"
    return StartRefused(f"no gateway can be asked at {way.words}: {reason}{hint}")
