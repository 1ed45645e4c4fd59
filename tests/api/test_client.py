"""The client's address, from the socket to the record, with and without trusted proxies."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

from structlog.testing import capture_logs

from app.callers import NewCaller
from tests.rig import Rig, rigged

PROXY = (ip_network("127.0.0.1/32"),)


async def address_seen(rig: Rig, *forwarded: str) -> str:
    """What the gateway says where a request comes from."""
    headers = [("Authorization", f"Bearer {rig.key}"), *(("X-Forwarded-For", value) for value in forwarded)]
    return str((await rig.client.get(f"{rig.url}/gateway/me", headers=headers)).json()["address"])


async def test_nobody_is_believed_by_default(tmp_path: Path) -> None:
    """Without trusted proxies the client is whoever made the connection, whatever it says."""
    async with rigged(tmp_path) as rig:
        assert await address_seen(rig) == "127.0.0.1"
        assert await address_seen(rig, "198.51.100.7") == "127.0.0.1"


async def test_a_trusted_proxy_is_believed(tmp_path: Path) -> None:
    """Behind a trusted proxy the client is the one that it names; a client's own claim stands left of that, and is not believed."""
    async with rigged(tmp_path, trusted_proxies=PROXY) as rig:
        assert await address_seen(rig) == "127.0.0.1"
        assert await address_seen(rig, "198.51.100.7") == "198.51.100.7"
        assert await address_seen(rig, "203.0.113.5, 198.51.100.7") == "198.51.100.7"
        assert await address_seen(rig, "203.0.113.5", "198.51.100.7", "127.0.0.1") == "198.51.100.7"
        assert await address_seen(rig, "[2001:db8::7]:4711") == "2001:db8::7"
        assert await address_seen(rig, "198.51.100.7, nonsense") == "127.0.0.1"


async def test_records_follow_the_client(tmp_path: Path) -> None:
    """Calls, and requests that never became calls, are on record with the client's address, not the proxy's."""
    async with rigged(tmp_path, trusted_proxies=PROXY) as rig:
        await rig.link("none=1", X_Forwarded_For="198.51.100.1")
        await rig.client.get(f"{rig.url}/gateway/me", headers={"X-Forwarded-For": "198.51.100.2"})
        await rig.client.get(f"{rig.url}/a//b", headers={"X-Forwarded-For": "198.51.100.3"})
        found = {record["code"]: record["address"] for record in await rig.records() if "address" in record}

    assert found == {"parameter-unknown": "198.51.100.1", "credentials-missing": "198.51.100.2", "not-found": "198.51.100.3"}


async def test_a_callers_networks_hold_behind_a_proxy(tmp_path: Path) -> None:
    """A key that is bound to a network is good from there; from elsewhere it is refused as any wrong key, and on record by the reason."""
    async with rigged(tmp_path, trusted_proxies=PROXY) as rig:
        bound = NewCaller("bound", networks=("198.51.100.0/24",))
        _, key = await rig.administer(lambda administration: administration.add_caller(bound))
        answers = [
            await rig.client.get(f"{rig.url}/gateway/me", headers={"X-API-TOKEN": value, "X-Forwarded-For": address, "X-Request-ID": "r"})
            for value, address in (
                (key.reveal(), "198.51.100.7"),
                (key.reveal(), "203.0.113.5"),
                (f"fgk_{'0' * 12}_{'x' * 43}", "203.0.113.5"),
            )
        ]
        counted = {record["code"]: record["address"] for record in await rig.records() if record["name"] == "refusals:counted"}

    inside, outside, wrong = answers
    assert (inside.status_code, inside.json()["name"]) == (200, "bound")
    assert (outside.status_code, outside.content) == (wrong.status_code, wrong.content)
    assert [header for header in outside.headers.items() if header[0] != "date"] == [
        header for header in wrong.headers.items() if header[0] != "date"
    ]
    assert counted == {"network-not-allowed": "203.0.113.5", "credentials-invalid": "203.0.113.5"}


async def test_strangers_of_one_site_are_counted_together(tmp_path: Path) -> None:
    """However many addresses of its IPv6 network one uses, a second's refusals are one record."""
    async with rigged(tmp_path, trusted_proxies=(ip_network("127.0.0.1/32"),)) as rig:
        for number in range(1, 9):
            await rig.client.get(f"{rig.url}/nowhere", headers={"X-Forwarded-For": f"2001:db8::{number}"})
        counted = [one for one in await rig.records() if one["name"] == "refusals:counted"]

    assert {one["address"] for one in counted} == {"2001:db8::/64"}
    assert sum(one["count"] for one in counted) == 8


async def test_a_key_from_elsewhere_is_refused_before_the_log_is_written(tmp_path: Path) -> None:
    """The line that names the network comes after the answer's end, so that the answer's time doesn't tell a good key from a wrong one."""
    async with rigged(tmp_path) as rig:
        bound = NewCaller("bound", networks=("198.51.100.0/24",))
        _, key = await rig.administer(lambda administration: administration.add_caller(bound))
        with capture_logs() as lines:
            answer = await rig.client.get(f"{rig.url}/gateway/me", headers={"X-API-TOKEN": key.reveal()})

    assert answer.status_code == 401
    assert [line["event"] for line in lines if line["event"] in {"request", "network-not-allowed"}] == ["request", "network-not-allowed"]
