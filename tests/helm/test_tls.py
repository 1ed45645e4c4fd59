"""A certificate of the gateway's own: where its Secret goes, and who speaks TLS then."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helm.chart import MATRIX, container, deployment, merged, named, notes

SECURED: dict[str, Any] = {"tls": {"existingSecret": "gateway-tls"}, "ingress": {"enabled": True, "hosts": ["gateway.example"]}}
PLAIN: dict[str, Any] = merged(SECURED, {"tls": {"existingSecret": ""}})
BACKEND = "nginx.ingress.kubernetes.io/backend-protocol"


def test_the_secrets_pair_is_the_gateways() -> None:
    """Both files are where their variables say, read from the Secret that is named."""
    variables = {one["name"]: one.get("value") for one in container(SECURED)["env"]}
    mounts = {one["name"]: one["mountPath"] for one in container(SECURED)["volumeMounts"]}
    volumes = {one["name"]: one for one in deployment(SECURED)["template"]["spec"]["volumes"]}

    assert variables["GATEWAY_TLS_CERT"] == f"{mounts['tls']}/tls.crt"
    assert variables["GATEWAY_TLS_KEY"] == f"{mounts['tls']}/tls.key"
    assert volumes["tls"]["secret"]["secretName"] == "gateway-tls"


@pytest.mark.parametrize(("values", "scheme"), [(SECURED, "https"), (PLAIN, "http")])
def test_all_speak_what_the_gateway_speaks(values: dict[str, Any], scheme: str) -> None:
    """Probes, Service and Ingress: with TLS where there is a certificate, and without where there is none."""
    (service,), (ingress,) = named("Service", values), named("Ingress", values)
    probes = {container(values)[probe]["httpGet"]["scheme"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}

    assert probes == {scheme.upper()}
    assert service["spec"]["ports"][0]["appProtocol"] == scheme
    assert ingress["metadata"]["annotations"].get(BACKEND) == ("HTTPS" if scheme == "https" else None)
    assert f"Within the cluster it is {scheme}://" in notes(values)


def test_metrics_are_scraped_over_tls() -> None:
    """Under the name that is in the certificate, and with the trust that the operator names."""
    trust = {"ca": {"secret": {"name": "gateway-tls", "key": "ca.crt"}}}
    values = merged(SECURED, {"metrics": {"serviceMonitor": {"enabled": True, "tlsConfig": trust}}})
    (found,) = named("ServiceMonitor", values)
    (without,) = named("ServiceMonitor", merged(values, {"tls": {"existingSecret": ""}}))

    assert found["spec"]["endpoints"][0]["scheme"] == "https"
    assert found["spec"]["endpoints"][0]["tlsConfig"] == {**trust, "serverName": "demo-flxpoint-gateway.prod.svc"}
    assert not {"scheme", "tlsConfig"} & without["spec"]["endpoints"][0].keys()


def test_the_notes_call_it_by_its_certificates_name() -> None:
    """Over a forwarded port the certificate is verified all the same."""
    forwarded = notes({"tls": SECURED["tls"]})

    assert "curl -i --cacert ca.crt --connect-to ::127.0.0.1:8080 -X PATCH" in forwarded
    assert "'https://demo-flxpoint-gateway.prod.svc/orders/link?orderIds=1001'" in forwarded
    assert "'http://127.0.0.1:8080/orders/link?orderIds=1001'" in notes({})


def test_the_matrix_has_it() -> None:
    """So that all that holds of every mode holds with a certificate too."""
    assert MATRIX["everything"]["tls"] == SECURED["tls"]
