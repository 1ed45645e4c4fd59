"""Whether the gateway in this container is ready, as the image's health check asks: `python3 -m app.probe`.

It knows the settings' variables and the standard library alone, since it is started every few seconds.
"""

from __future__ import annotations

import os
import ssl
import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection

__all__ = ["main"]

HOST, PORT = "127.0.0.1", 8080
PATIENCE_SECONDS = 2.0
READY = "/gateway/health/ready"
OK = 200


def main() -> str | None:
    """Ask; why it isn't ready, or nothing."""
    connection = _connection(int(os.environ.get("GATEWAY_PORT") or PORT), tls=bool(os.environ.get("GATEWAY_TLS_CERT")))
    try:
        connection.request("GET", READY)
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return f"not reached: {error}"
    finally:
        connection.close()
    return None if status == OK else f"not ready: {status}"


def _connection(port: int, *, tls: bool) -> HTTPConnection:
    if not tls:
        return HTTPConnection(HOST, port, timeout=PATIENCE_SECONDS)
    # The certificate is for the name that callers use; what answers at this address is this container's own.
    anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anyone.check_hostname = False
    anyone.verify_mode = ssl.CERT_NONE
    return HTTPSConnection(HOST, port, timeout=PATIENCE_SECONDS, context=anyone)


if __name__ == "__main__":
    sys.exit(main())
