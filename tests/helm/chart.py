"""The chart, rendered by Helm's own engine, and the values that it is tried with."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import helm_python as helm
import yaml

__all__ = ["CHART", "MATRIX", "SCALED_OUT", "container", "deployment", "loaded", "merged", "named", "notes", "pods", "refusal", "rendered"]

CHART = Path(__file__).parent.parent.parent / "helm"
NOTES = "flxpoint-gateway/templates/NOTES.txt"

SCALED_OUT: dict[str, Any] = {
    "replicas": 3,
    "masterKeys": {"existingSecret": "gateway-keys"},
    "database": {"existingSecret": "gateway-postgresql"},
    "valkey": {"existingSecret": "gateway-valkey"},
    "networkPolicy": {
        "egress": {
            "database": {"to": [{"ipBlock": {"cidr": "10.1.0.0/28"}}]},
            "valkey": {"to": [{"podSelector": {"matchLabels": {"app": "valkey"}}}]},
        }
    },
}
"""The least that several pods need."""

EVERYTHING: dict[str, Any] = {
    **SCALED_OUT,
    "image": {"repository": "registry.example/gateway", "digest": f"sha256:{'a' * 64}", "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "registry"}],
    "workers": 2,
    "settings": {
        "GATEWAY_UPSTREAM_URL": "http://simulator.example:8081",
        "GATEWAY_OIDC_ISSUER": "https://login.example:8443/realm",
        "GATEWAY_OIDC_AUDIENCE": "gateway",
        "GATEWAY_JOB_IDS_PER_CALLER": 2_000_000,
        "GATEWAY_SHUTDOWN_GRACE": 2.5,
        "GATEWAY_COALESCE": True,
    },
    "tls": {"existingSecret": "gateway-tls"},
    "config": {"content": "tokens: []\ncallers: []\n", "secrets": ["flxpoint-shop", "order-service.key"]},
    "catalogue": {"content": "openapi: 3.1.0\n"},
    "environment": [{"name": "FLXPOINT_SHOP", "valueFrom": {"secretKeyRef": {"name": "flxpoint-shop", "key": "value"}}}],
    "state": {"scaledOut": {"kind": "ephemeral", "storageClass": "retained"}},
    "service": {"annotations": {"a": "b"}},
    "ingress": {
        "enabled": True,
        "hosts": ["gateway.example", "gateway.shop.example"],
        "tls": [{"secretName": "gateway-tls", "hosts": ["gateway.example"]}],
        "annotations": {"example.com/a": "b"},
    },
    "autoscaling": {"enabled": True},
    "serviceAccount": {"annotations": {"a": "b"}},
    "metrics": {
        "serviceMonitor": {"enabled": True, "existingSecret": "gateway-metrics", "labels": {"release": "prometheus"}},
        "rules": {"enabled": True, "labels": {"release": "prometheus"}},
    },
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "shop"},
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "priorityClassName": "high",
    "extraVolumes": [{"name": "ca", "configMap": {"name": "company-ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/company-ca", "readOnly": True}],
}

MATRIX: dict[str, dict[str, Any]] = {
    "embedded": {},
    "embedded-in-production": {
        "masterKeys": {"existingSecret": "gateway-keys"},
        "config": {"existingSecret": "gateway-config"},
        "catalogue": {"existingConfigMap": "gateway-catalogue"},
        "ingress": {"enabled": True, "hosts": ["gateway.example"]},
        "metrics": {"rules": {"enabled": True}},
        "state": {"storageClass": "fast", "accessModes": ["ReadWriteOncePod"], "keep": False},
    },
    "one-on-postgresql": {
        "database": {"existingSecret": "gateway-postgresql"},
        "networkPolicy": {"enabled": False},
        "state": {"existingClaim": "gateway"},
        "serviceAccount": {"create": False},
        "config": {"existingConfigMap": "gateway-config"},
        "preStopSeconds": 0,
    },
    "scaled-out": SCALED_OUT,
    "everything": EVERYTHING,
    "long-names": {**EVERYTHING, "nameOverride": "n" * 63, "fullnameOverride": "f" * 63},
}
"""What the chart is tried with, by what it shows."""


class OneOfEach(yaml.CSafeLoader):
    """Reads YAML as Kubernetes does, which refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's own
        """A mapping; of keys that stand twice PyYAML would take the last."""
        keys = [str(key.value) for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"twice: {keys}"
        return super().construct_mapping(node, deep=deep)


@cache
def loaded() -> helm.Chart:
    """The chart, read once."""
    return helm.Chart.load(CHART)


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Values over others, as Helm lays them."""
    both = {
        key: merged(base[key], over[key])
        for key in base.keys() & over.keys()
        if isinstance(base[key], dict) and isinstance(over[key], dict)
    }
    return {**base, **over, **both}


def rendered(values: dict[str, Any], name: str = "demo") -> list[dict[str, Any]]:
    """Every object that a release of that name would make, its hooks too.

    Raises:
        helm.HelmError: it can't be rendered.
    """
    files = loaded().render(values, name=name, namespace="prod")
    texts = [text for file, text in files.items() if file != NOTES]
    return [found for text in texts for found in yaml.load_all(text, Loader=OneOfEach) if found]


def notes(values: dict[str, Any]) -> str:
    """What is told after the installation."""
    return loaded().render(values, name="demo", namespace="prod")[NOTES]


def refusal(values: dict[str, Any]) -> str:
    """Why it isn't rendered."""
    try:
        rendered(values)
    except helm.HelmError as error:
        return str(error)
    message = f"it is rendered: {values}"
    raise AssertionError(message)


def named(kind: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    """Those objects of one kind."""
    return [found for found in rendered(values) if found["kind"] == kind]


def deployment(values: dict[str, Any]) -> dict[str, Any]:
    """What the one Deployment says."""
    (found,) = named("Deployment", values)
    spec: dict[str, Any] = found["spec"]
    return spec


def container(values: dict[str, Any]) -> dict[str, Any]:
    """The container that serves."""
    (found,) = deployment(values)["template"]["spec"]["containers"]
    one: dict[str, Any] = found
    return one


def pods(values: dict[str, Any]) -> list[dict[str, Any]]:
    """What every pod is made by, the hook's too."""
    return [found["spec"]["template"]["spec"] for found in rendered(values) if found["kind"] in {"Deployment", "Job"}]
