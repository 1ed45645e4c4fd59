"""The pods: what they may do, how they are looked after, how they end."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from app.cli.serving import AFTER_GRACE_SECONDS
from app.main import create_app
from app.settings import Settings
from tests.helm.chart import CHART, MATRIX, SCALED_OUT, container, deployment, merged, named, pods

DOCKERFILE = (CHART.parent / "Dockerfile").read_text(encoding="utf-8")


def setting_of(values: dict[str, Any], name: str) -> str:
    """What a variable of the serving container is set to."""
    found: dict[str, str] = {one["name"]: one.get("value", "") for one in container(values)["env"]}
    return found[name]


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_no_pod_may_do_more_than_it_must(values: dict[str, Any]) -> None:
    """Every container, the hook's too, runs as the image's own user, without any capability, on a file system that it can't write."""
    user = int(re.findall(r"^USER (\d+)$", DOCKERFILE, re.MULTILINE)[-1])
    for pod in pods(values):
        security = pod["securityContext"]

        assert security["runAsNonRoot"] is True
        assert {security["runAsUser"], security["runAsGroup"], security["fsGroup"]} == {user}
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert "initContainers" not in pod
        for one in pod["containers"]:
            assert one["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_no_pod_can_speak_to_kubernetes(values: dict[str, Any]) -> None:
    """Nothing of the gateway's needs the API server, so no pod gets a token for it."""
    assert {pod["automountServiceAccountToken"] for pod in pods(values)} == {False}
    assert {one["automountServiceAccountToken"] for one in named("ServiceAccount", values)} <= {False}


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_no_service_of_the_namespace_sets_a_setting(values: dict[str, Any]) -> None:
    """A Service that is called `gateway` would otherwise put an address into GATEWAY_PORT."""
    assert {pod["enableServiceLinks"] for pod in pods(values)} == {False}


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_what_a_pod_writes_has_a_bound(values: dict[str, Any]) -> None:
    """`/tmp` and the state folder can be written, and neither can fill its node."""
    for pod in pods(values):
        mounts = {one["mountPath"]: one["name"] for one in pod["containers"][0]["volumeMounts"] if not one.get("readOnly")}
        volumes = {one["name"]: one for one in pod["volumes"]}

        assert mounts.keys() <= {"/tmp", "/var/lib/flxpoint-gateway"}  # noqa: S108 - the pod's own
        assert all("sizeLimit" in volumes[name].get("emptyDir", {"sizeLimit": ""}) for name in mounts.values())


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_files_with_secrets_are_read_by_the_gateway_alone(values: dict[str, Any]) -> None:
    """A Secret's files are for the pod's user and its group to read, and for nobody to write."""
    for pod in pods(values):
        secrets = {one["name"]: one["secret"] for one in pod["volumes"] if "secret" in one}
        mounts = {one["name"]: one for one in pod["containers"][0]["volumeMounts"]}

        assert {one["defaultMode"] for one in secrets.values()} <= {0o440}
        assert all(mounts[name]["readOnly"] for name in secrets)


def test_what_is_made_private_stays_so() -> None:
    """A volume's files get their group once: done at every start, that would open the key file, 0600, to the group."""
    assert deployment({})["template"]["spec"]["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"


def test_the_state_folder_is_on_the_images_volume() -> None:
    """The state stands in a folder of its own in it: made by the gateway, with the mode that it wants."""
    (volume,) = re.findall(r"^VOLUME (\S+)$", DOCKERFILE, re.MULTILINE)

    assert {one["name"]: one["mountPath"] for one in container({})["volumeMounts"]}["state"] == volume
    assert setting_of({}, "GATEWAY_STATE_DIR") == f"{volume}/state"


def test_probes_ask_routes_that_there_are(tmp_path: Path) -> None:
    """Each probe asks a route of the application's: whether it lives to start and stay, whether it is ready to get calls."""
    app = create_app(Settings(state_dir=tmp_path))
    described = app.openapi()["paths"]
    served = container({})
    asked = {probe: served[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}

    assert asked == {
        "startupProbe": "/gateway/health/live",
        "livenessProbe": "/gateway/health/live",
        "readinessProbe": "/gateway/health/ready",
    }
    assert set(asked.values()) <= described.keys()


def test_a_slow_start_is_waited_for() -> None:
    """Records of a spool and migrations come before the first answer; the start may take as long as it is given."""
    probe = container({"startupSeconds": 1200})["startupProbe"]

    assert probe["failureThreshold"] * probe["periodSeconds"] == 1200
    assert deployment({"startupSeconds": 1200})["progressDeadlineSeconds"] > 1200


@pytest.mark.parametrize(("values", "port"), [({}, 8080), ({"settings": {"GATEWAY_PORT": 9000}}, 9000)])
def test_ports_agree(values: dict[str, Any], port: int) -> None:
    """Setting, container, Service, Ingress and probes mean one port: the image's, unless another is set."""
    reached = merged(values, {"ingress": {"enabled": True, "hosts": ["gateway.example"]}})
    (service,) = named("Service", reached)
    (ingress,) = named("Ingress", reached)
    served = container(reached)

    assert setting_of(reached, "GATEWAY_PORT") == str(port)
    assert served["ports"] == [{"name": "http", "containerPort": port}]
    assert service["spec"]["ports"][0]["targetPort"] == service["spec"]["ports"][0]["name"] == "http"
    assert ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"] == {"name": "http"}
    assert {served[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")} == {"http"}
    assert "EXPOSE 8080\n" in DOCKERFILE


@pytest.mark.parametrize("grace", [None, 0, 2.5, 25, 600])
@pytest.mark.parametrize("pause", [0, 10, 30])
def test_a_pod_is_given_the_time_that_its_end_takes(grace: float | None, pause: int) -> None:
    """Killed before, a send under way would have no outcome on record: the pause, the grace, the longest send, and time to record."""
    values = {"preStopSeconds": pause, "settings": {} if grace is None else {"GATEWAY_SHUTDOWN_GRACE": grace}}
    takes = pause + math.ceil(25 if grace is None else grace) + AFTER_GRACE_SECONDS

    assert Settings.model_fields["shutdown_grace"].default == 25
    assert deployment(values)["template"]["spec"]["terminationGracePeriodSeconds"] == takes + 10


def test_a_pod_goes_on_until_nobody_sends_to_it() -> None:
    """It gets SIGTERM only when Services and Ingresses have had time to take it out."""
    assert container({})["lifecycle"] == {"preStop": {"sleep": {"seconds": 10}}}
    assert "lifecycle" not in container({"preStopSeconds": 0})


def test_pods_take_what_the_operator_adds() -> None:
    """Labels, annotations, accounts and places are the operator's to say."""
    template = deployment(MATRIX["everything"])["template"]
    spec = template["spec"]

    assert template["metadata"]["labels"]["team"] == "shop"
    assert template["metadata"]["annotations"]["a"] == "b"
    assert spec["nodeSelector"] == {"kubernetes.io/arch": "amd64"}
    assert spec["priorityClassName"] == "high"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert {"ca"} <= {one["name"] for one in spec["volumes"]} & {one["name"] for one in spec["containers"][0]["volumeMounts"]}


@pytest.mark.parametrize("cpu", ["250m", "1.5", 1, 0.5])
def test_resources_are_written_as_kubernetes_takes_them(cpu: str | float) -> None:
    """A number of cores is as good as a text."""
    assert container({"resources": {"requests": {"cpu": cpu}}})["resources"]["requests"] == {"cpu": cpu, "memory": "256Mi"}


def test_another_catalogue_restarts_the_pods_and_another_configuration_does_not() -> None:
    """The catalogue is read at the start alone; the configuration file is applied while the gateway serves."""

    def template(catalogue: str, config: str) -> dict[str, Any]:
        values = merged(SCALED_OUT, {"catalogue": {"content": catalogue}, "config": {"content": config}})
        made: dict[str, Any] = deployment(values)["template"]
        return made

    assert template("a: 1", "tokens: []") != template("a: 2", "tokens: []")
    assert template("a: 1", "tokens: []") == template("a: 1", "callers: []")
