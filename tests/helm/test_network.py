"""Who reaches the pods, whom they reach, and how long a proxy waits for them."""

from __future__ import annotations

from typing import Any

import pytest

from app.settings import Settings
from tests.helm.chart import MATRIX, SCALED_OUT, merged, named, refusal

INGRESS = {"ingress": {"enabled": True, "hosts": ["gateway.example"]}}
NGINX = "nginx.ingress.kubernetes.io"


def policy(values: dict[str, Any]) -> dict[str, Any]:
    """What the one NetworkPolicy says."""
    (found,) = named("NetworkPolicy", values)
    spec: dict[str, Any] = found["spec"]
    return spec


def ways_out(values: dict[str, Any]) -> list[tuple[str, list[int]]]:
    """The first peer of every rule of egress, and its ports."""
    return [(str(rule["to"][0]), [one["port"] for one in rule["ports"]]) for rule in policy(values)["egress"]]


def namespaces_let_in(values: dict[str, Any]) -> list[str]:
    """The names of other namespaces whose pods reach the port."""
    (rule,) = policy(values)["ingress"]
    selectors = [peer["namespaceSelector"]["matchLabels"] for peer in rule["from"] if "namespaceSelector" in peer]
    return [labels["kubernetes.io/metadata.name"] for labels in selectors]


def test_embedded_only_the_upstream_and_names_are_reached() -> None:
    """Egress is to the cluster's DNS, and to public addresses at the upstream's port."""
    dns, upstream = policy({})["egress"]

    assert [(one["port"], one["protocol"]) for one in dns["ports"]] == [(53, "UDP"), (53, "TCP")]
    assert upstream["ports"] == [{"port": 443, "protocol": "TCP"}]


def test_the_upstreams_rule_reaches_no_private_address() -> None:
    """Whoever gets a pod to call something can't have it call into the cluster, nor the cloud's metadata at 169.254.169.254."""
    blocks = [peer["ipBlock"] for peer in policy({})["egress"][1]["to"]]
    kept_out = {cidr for block in blocks for cidr in block["except"]}

    assert kept_out >= {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "fc00::/7", "fe80::/10"}


def test_scaled_out_database_and_valkey_are_reached_where_they_are() -> None:
    """Each of the two has a rule of its own, for its address and port alone."""
    _, _, database, valkey = ways_out(SCALED_OUT)

    assert database == ("{'ipBlock': {'cidr': '10.1.0.0/28'}}", [5432])
    assert valkey == ("{'podSelector': {'matchLabels': {'app': 'valkey'}}}", [6379])


@pytest.mark.parametrize(
    ("settings", "ports"),
    [
        ({"GATEWAY_UPSTREAM_URL": "https://api.flxpoint.com"}, [443]),
        ({"GATEWAY_UPSTREAM_URL": "http://simulator.example"}, [80]),
        ({"GATEWAY_UPSTREAM_URL": "http://simulator.example:8081/x"}, [8081]),
        ({"GATEWAY_UPSTREAM_URL": "https://[2001:db8::1]:8443"}, [8443]),
        ({"GATEWAY_UPSTREAM_URL": "https://[2001:db8::1]"}, [443]),
        ({"GATEWAY_OIDC_ISSUER": "https://login.example/realm"}, [443]),
        ({"GATEWAY_OIDC_ISSUER": "https://login.example:8443/realm"}, [443, 8443]),
    ],
)
def test_ports_out_are_those_of_the_settings(settings: dict[str, str], ports: list[int]) -> None:
    """Upstream and identity provider are reached at the ports that their addresses name."""
    assert ways_out({"settings": settings})[1][1] == ports


def test_what_else_must_be_reached_can_be_named() -> None:
    """An identity provider within the cluster, or where anchors are kept, gets a rule of the operator's."""
    rule = {"to": [{"podSelector": {"matchLabels": {"app": "login"}}}], "ports": [{"port": 8080, "protocol": "TCP"}]}

    assert policy({"networkPolicy": {"egress": {"extra": [rule]}}})["egress"][-1] == rule


def test_only_those_named_come_in() -> None:
    """The release's own namespace reaches the port; the Ingress's and Prometheus' do where there are these, and nobody else."""
    monitored = {"metrics": {"serviceMonitor": {"enabled": True}}}

    assert namespaces_let_in({}) == []
    assert namespaces_let_in(INGRESS) == ["ingress-nginx"]
    assert namespaces_let_in({**INGRESS, **monitored}) == ["ingress-nginx", "monitoring"]
    assert policy({})["ingress"][0]["ports"] == [{"port": "http", "protocol": "TCP"}]


def test_with_nobody_named_nobody_comes_in() -> None:
    """An empty list opens nothing: a rule without peers would let in everybody."""
    values: dict[str, Any] = {"networkPolicy": {"ingress": {"from": []}}}

    assert policy(values)["ingress"] == []
    assert policy(values)["policyTypes"] == ["Ingress", "Egress"]


@pytest.mark.parametrize("egress", [{"dns": []}, {"upstream": []}, {"extra": [{"to": [], "ports": []}]}])
def test_an_empty_list_of_peers_opens_no_way_out(egress: dict[str, Any]) -> None:
    """A rule without peers would let out to everywhere, so it is refused."""
    assert "minItems: got 0, want 1" in refusal({"networkPolicy": {"egress": egress}})


def test_the_policy_holds_for_the_migration_too() -> None:
    """It selects every pod of the release."""
    (job,) = named("Job", SCALED_OUT)

    assert policy(SCALED_OUT)["podSelector"]["matchLabels"].items() <= job["spec"]["template"]["metadata"]["labels"].items()


def test_the_policy_can_be_left_out() -> None:
    """Where the network's rules are made elsewhere, the chart makes none."""
    assert named("NetworkPolicy", {"networkPolicy": {"enabled": False}}) == []


@pytest.mark.parametrize(("longest", "timeout"), [(None, "150"), (60, "90"), (300, "330"), (0.5, "31")])
def test_a_proxy_waits_longer_than_any_caller(longest: float | None, timeout: str) -> None:
    """A proxy that gave up before GATEWAY_MAX_WAIT would hide the gateway's answer to a call that was sent."""
    values = merged(INGRESS, {"settings": {} if longest is None else {"GATEWAY_MAX_WAIT": longest}})
    annotations = named("Ingress", values)[0]["metadata"]["annotations"]

    assert Settings.model_fields["max_wait"].default == 120
    assert annotations[f"{NGINX}/proxy-read-timeout"] == annotations[f"{NGINX}/proxy-send-timeout"] == timeout


def test_a_batch_passes_the_proxy_and_events_arrive_at_once() -> None:
    """A batch may have 4 MiB, of which ingress-nginx takes 1 by itself; a job's events aren't held back."""
    annotations = named("Ingress", INGRESS)[0]["metadata"]["annotations"]

    assert annotations[f"{NGINX}/proxy-body-size"] == "5m"
    assert annotations[f"{NGINX}/proxy-buffering"] == "off"


def test_an_operators_annotation_goes_before_the_charts() -> None:
    """Annotations are added to the chart's, and one of the same name takes its place."""
    values = merged(INGRESS, {"ingress": {"annotations": {f"{NGINX}/proxy-body-size": "8m", "a": "b"}}})
    annotations = named("Ingress", values)[0]["metadata"]["annotations"]

    assert annotations["a"] == "b"
    assert annotations[f"{NGINX}/proxy-body-size"] == "8m"
    assert annotations[f"{NGINX}/proxy-read-timeout"] == "150"


def test_every_host_of_the_ingress_leads_to_the_service() -> None:
    """All hosts and all paths go to the one Service, with the class and the certificates that are named."""
    (ingress,) = named("Ingress", MATRIX["everything"])
    (service,) = named("Service", MATRIX["everything"])
    backends = [path["backend"]["service"]["name"] for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]

    assert [rule["host"] for rule in ingress["spec"]["rules"]] == ["gateway.example", "gateway.shop.example"]
    assert set(backends) == {service["metadata"]["name"]}
    assert ingress["spec"]["ingressClassName"] == "nginx"
    assert ingress["spec"]["tls"] == [{"secretName": "gateway-tls", "hosts": ["gateway.example"]}]
