"""A server that answers as it is told, request by request, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Answer", "Asked", "Scripted", "job", "problem", "scripted"]


@dataclass(frozen=True)
class Answer:
    """An answer; `cut` ends the connection after so many bytes of its body, `dropped` before any answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    dropped: bool = False
    cut: int | None = None


@dataclass(frozen=True)
class Asked:
    """A request that came."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Scripted:
    """The server's address, the answers that it has yet to give, and what it was asked."""

    url: str
    answers: list[Answer]
    asked: list[Asked] = field(default_factory=list)


def job(state: str = "running", **counts: int) -> Answer:
    """A job of 100 IDs as a gateway shows it."""
    none = {"total": 100, "answered": 0, "failed": 0, "cancelled": 0, "linked": 0}
    return Answer(body=json.dumps({"id": "a-job", "state": state, "counts": none | counts, "uncertain": False}).encode())


def problem(status: int, code: str, **headers: str) -> Answer:
    """A gateway's problem."""
    body: dict[str, Any] = {"type": f"/gateway/problems/{code}", "detail": f"this is {code}"}
    return Answer(status, json.dumps(body).encode(), {name.replace("_", "-"): value for name, value in headers.items()})


@contextmanager
def scripted(*answers: Answer) -> Iterator[Scripted]:
    """The server, as long as the context lasts. The last answer is given for good."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            made.asked.append(Asked(self.command, self.path, dict(self.headers), body))
            answer = made.answers.pop(0) if len(made.answers) > 1 else made.answers[0]
            if answer.dropped:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body[: answer.cut])

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Scripted(f"http://127.0.0.1:{server.server_port}", list(answers))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()
