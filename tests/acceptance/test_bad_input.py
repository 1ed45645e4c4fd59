"""Every bad input of the contract: a clear problem, nothing sent upstream, and the process goes on."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest

from tests.rig import Rig

pytestmark = pytest.mark.asyncio(loop_scope="module")

NINE = 2**63 - 1


@dataclass(frozen=True)
class Raw:
    """An HTTP request as bytes, with `{key}` for the caller's key, and the answer that it must get."""

    target: str = "/orders/link?orderIds=1"
    status: int = 400
    code: str | None = None
    method: str = "PATCH"
    credential: str = "Authorization: Bearer {key}\r\n"
    headers: str = ""
    body: str = ""


def refused(query: str, code: str) -> Raw:
    """A query that the one-parameter rule refuses."""
    return Raw(f"/orders/link?{query}", 400, code)


CASES = {
    "no credential": Raw(status=401, code="credentials-missing", credential=""),
    "a wrong key": Raw(status=401, code="credentials-invalid", credential=f"Authorization: Bearer fgk_{'0' * 12}_{'x' * 43}\r\n"),
    "not a key": Raw(status=401, code="credentials-invalid", credential="Authorization: Bearer hello\r\n"),
    "another scheme": Raw(status=401, code="credentials-invalid", credential="Authorization: Basic aGk6aGk=\r\n"),
    "two credentials": Raw(status=401, code="credentials-invalid", headers="X-API-TOKEN: fgk_000000000000_" + "x" * 43 + "\r\n"),
    "a Flxpoint token": Raw(status=401, code="upstream-token-presented", credential="X-API-TOKEN: 4f1c7d90aa\r\n"),
    "a Flxpoint token beside a key": Raw(status=401, code="upstream-token-presented", headers="X-API-TOKEN: 4f1c7d90aa\r\n"),
    "no parameter": Raw("/orders/link", 400, "parameter-missing"),
    "an empty query": refused("", "parameter-missing"),
    "two parameters": refused("orderIds=1&channelIds=2", "parameter-conflict"),
    "an undeclared parameter": refused("ids=1", "parameter-unknown"),
    "an undeclared parameter beside a declared one": refused("orderIds=1&force=true", "parameter-unknown"),
    "the same name in another case": refused("orderids=1", "parameter-unknown"),
    "an empty value": refused("orderIds=", "parameter-invalid"),
    "no value": refused("orderIds", "parameter-invalid"),
    "zero": refused("orderIds=0", "parameter-invalid"),
    "negative": refused("orderIds=-1", "parameter-invalid"),
    "a plus sign": refused("orderIds=%2B1", "parameter-invalid"),
    "a fraction": refused("orderIds=1.5", "parameter-invalid"),
    "letters": refused("orderIds=abc", "parameter-invalid"),
    "an empty place": refused("orderIds=1,,2", "parameter-invalid"),
    "a trailing comma": refused("orderIds=1,", "parameter-invalid"),
    "a blank": refused("orderIds=1,%202", "parameter-invalid"),
    "2^63": refused(f"orderIds={NINE + 1}", "parameter-invalid"),
    "many digits": refused("orderIds=" + "9" * 5_000, "parameter-invalid"),
    "51 IDs": refused("orderIds=" + ",".join(map(str, range(1, 52))), "parameter-invalid"),
    "Unicode digits": refused("orderIds=%D9%A1", "parameter-invalid"),
    "full-width digits": refused("orderIds=%EF%BC%91", "parameter-invalid"),
    "NUL": refused("orderIds=1%00", "parameter-invalid"),
    "newline": refused("orderIds=1%0A", "parameter-invalid"),
    "half an encoding": refused("orderIds=%3", "parameter-invalid"),
    "bytes that are not UTF-8": refused("orderIds=%FF", "parameter-invalid"),
    "a body": Raw(code="body-not-allowed", headers="Content-Length: 2\r\n", body="{}"),
    "a chunked body": Raw(code="body-not-allowed", headers="Transfer-Encoding: chunked\r\n", body="2\r\n{}\r\n0\r\n\r\n"),
    "a body that is announced and never sent": Raw(code="body-not-allowed", headers="Content-Length: 100\r\n"),
    "a 9 KiB query": Raw("/orders/link?orderIds=" + "1" * 9_216, 414, "uri-too-long"),
    "a 64 KiB query": Raw("/orders/link?orderIds=" + "1" * 65_536, 400),
    "200 headers": Raw(status=431, code="headers-too-large", headers="".join(f"X-{n}: 1\r\n" for n in range(200))),
    "a header of 64 KiB": Raw(status=431, code="headers-too-large", headers="X-Long: " + "a" * 65_536 + "\r\n"),
    "two token names": Raw(code="request-malformed", headers="Gateway-Token: shop\r\nGateway-Token: shop\r\n"),
    "POST": Raw(status=405, code="method-not-allowed", method="POST"),
    "GET": Raw(status=405, code="method-not-allowed", method="GET"),
    "HEAD": Raw(status=405, method="HEAD"),
    "an unknown path": Raw("/orders/unlink?orderIds=1", 404, "not-found"),
    "a doubled slash": Raw("//orders/link?orderIds=1", 404, "not-found"),
    "a trailing slash": Raw("/orders/link/?orderIds=1", 404, "not-found"),
    "an encoded slash": Raw("/orders%2flink?orderIds=1", 404, "not-found"),
    "an encoded letter": Raw("/orders/lin%6B?orderIds=1", 404, "not-found"),
    "dots in the path": Raw("/gateway/../orders/link?orderIds=1", 404, "not-found"),
    "a path parameter": Raw("/orders/link;v=1?orderIds=1", 404, "not-found"),
    "an unknown problem": Raw("/gateway/problems/no-such-code", 404, "not-found", method="GET"),
    "a raw NUL": Raw("/orders/link?orderIds=1\0", 400),
    "a raw newline": Raw("/orders/link?orderIds=1\n2", 400),
    "a blank in the target": Raw("/orders/link?orderIds=1 2", 400),
    "no HTTP at all": Raw("", 400, method="\x16\x03\x01"),
    "a negative length": Raw(headers="Content-Length: -1\r\n"),
    "two lengths": Raw(headers="Content-Length: 1\r\nContent-Length: 2\r\n"),
}


async def ask(rig: Rig, raw: Raw) -> tuple[int, dict[str, str], bytes]:
    """Send the bytes on a connection of their own and read the whole answer."""
    host, port = rig.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"{raw.method} {raw.target} HTTP/1.1\r\nHost: gateway\r\n{raw.credential}{raw.headers}Connection: close\r\n\r\n"
    writer.write(head.replace("{key}", rig.key).encode("latin-1") + raw.body.encode())
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    start, _, body = answer.partition(b"\r\n\r\n")
    status, *fields = start.decode("latin-1").split("\r\n")
    headers = dict(field.lower().split(": ", 1) for field in fields)
    return int(status.split()[1]), headers, body


@pytest.mark.parametrize("raw", CASES.values(), ids=CASES.keys())
async def test_bad_input_gets_its_problem_and_nothing_is_sent(rig: Rig, raw: Raw) -> None:
    """A bad request gets the status and problem of the contract, reaches no upstream, and leaves the process well."""
    before = (await rig.statistics())["arrivals"]

    status, headers, body = await ask(rig, raw)
    alive = await rig.client.get(f"{rig.url}/gateway/health/ready")

    assert status == raw.status
    assert alive.status_code == 200
    assert (await rig.statistics())["arrivals"] == before
    if raw.code:
        problem: dict[str, Any] = json.loads(body)
        assert headers["content-type"] == "application/problem+json"
        assert headers["cache-control"] == "no-store"
        assert problem["type"] == f"/gateway/problems/{raw.code}"
        assert problem["status"] == status
        assert problem["instance"] == headers["x-request-id"]
        assert problem["title"]
        assert problem["detail"]


async def test_a_refused_parameter_is_named_with_the_choice(rig: Rig) -> None:
    """The problem of an undeclared parameter names it and those that are declared."""
    problem = (await rig.link("orderID=1")).json()

    assert problem["unknown"] == ["orderID"]
    assert problem["declared"] == ["orderIds", "orderItemIds", "channelIds"]


async def test_a_value_is_never_repeated(rig: Rig) -> None:
    """What a caller put into a parameter by mistake (a token, say) doesn't come back and isn't recorded."""
    answer = await rig.link("orderIds=SECRET-IN-THE-WRONG-PLACE")

    assert "SECRET" not in answer.text
    assert "SECRET" not in json.dumps(await rig.records())


async def test_a_401_says_how_to_authenticate(rig: Rig) -> None:
    """A 401 carries `WWW-Authenticate` (RFC 9110, section 11.6.1)."""
    _, headers, _ = await ask(rig, CASES["no credential"])

    assert headers["www-authenticate"] == "bearer"


async def test_a_405_names_the_method_that_is_taken(rig: Rig) -> None:
    """A 405 carries `Allow`."""
    _, headers, _ = await ask(rig, CASES["GET"])

    assert headers["allow"] == "patch"


async def test_local_refusals_are_on_record_with_their_reason(rig: Rig) -> None:
    """A known caller's refused call is on record with its code and reason, a stranger's is counted."""
    request_id = (await rig.link("orderIds=1&channelIds=2")).headers["X-Request-ID"]
    await ask(rig, CASES["no credential"])
    records = await rig.records()

    [refusal] = [record for record in records if record.get("request_id") == request_id]
    assert refusal["name"] == "call:refused"
    assert (refusal["code"], refusal["caller"]) == ("parameter-conflict", "order-service")
    assert refusal["reason"]
    counted = [record for record in records if record["name"] == "refusals:counted" and record["code"] == "credentials-missing"]
    assert counted
    assert "caller" not in counted[0]
