"""nginx before the simulator, as a plain proxy and as a limiter, where the system has it (Debian: the package nginx-light)."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.client import Address
from benchmarks.processes import Child, free_address, spawned
from benchmarks.windows import RATE

__all__ = ["MISSING", "nginx_program", "nginx_version", "proxied"]

MISSING = "nginx: not installed, so not measured (Debian: apt-get install nginx-light)"
OTHER_PLACES = "/usr/sbin:/usr/local/sbin:/opt/homebrew/bin"
LIMIT = "limit_req zone=tokens burst=1000;"
"""With a queue, and without `nodelay`, so that what waits is let through at the rate."""

CONFIGURATION = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  limit_req_zone $http_x_api_token zone=tokens:1m rate={rate}r/s;
  upstream flxpoint {{ server {upstream.host}:{upstream.port}; keepalive 64; }}
  server {{
    listen {address.host}:{address.port};
    location / {{
      proxy_pass http://flxpoint;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
    location /orders {{
      {limit}
      proxy_pass http://flxpoint;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
    }}
  }}
}}
"""


def nginx_program() -> str | None:
    """Where nginx is; None where it isn't installed."""
    return shutil.which("nginx") or shutil.which("nginx", path=OTHER_PLACES)


def nginx_version(program: str) -> str:
    """Its name and version."""
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stderr
    return said.strip().rpartition(" ")[2].replace("/", " ")


@contextmanager
def proxied(program: str, folder: Path, upstream: Address, *, limited: bool) -> Iterator[Child]:
    """A running nginx before an upstream while the context lasts; `limited`: it lets 2 calls a second of each token through."""
    address = free_address()
    limit = LIMIT if limited else ""
    text = CONFIGURATION.format(folder=folder, rate=RATE, upstream=upstream, address=address, limit=limit)
    file = folder / "nginx.conf"
    file.write_text(text, encoding="ascii")
    arguments = ["-p", str(folder), "-e", str(folder / "nginx-error.log"), "-c", str(file)]
    with spawned(arguments, address, folder / "nginx.log", program=program) as child:
        yield child
