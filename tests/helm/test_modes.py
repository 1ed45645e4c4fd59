"""Embedded or scaled out: what each makes, and what is refused with its reason."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helm.chart import MATRIX, SCALED_OUT, container, deployment, loaded, merged, named, pods, refusal, rendered

KEYS = {"masterKeys": {"existingSecret": "gateway-keys"}}
DATABASE = {"database": {"existingSecret": "gateway-postgresql"}}
VALKEY = {"valkey": {"existingSecret": "gateway-valkey"}}
SEVERAL: list[tuple[dict[str, Any], str]] = [
    ({"replicas": 2}, "replicas: 2"),
    ({"workers": 2}, "workers: 2"),
    ({"autoscaling": {"enabled": True}}, "autoscaling.enabled"),
]


def volume(values: dict[str, Any], name: str) -> dict[str, Any]:
    """One of the serving pod's volumes, without its name."""
    (found,) = [one for one in deployment(values)["template"]["spec"]["volumes"] if one["name"] == name]
    return {key: part for key, part in found.items() if key != "name"}


def test_without_values_it_is_embedded() -> None:
    """One pod, replaced and never doubled, keeps its state on a volume that outlives the release."""
    (claim,) = named("PersistentVolumeClaim", {})

    assert deployment({})["replicas"] == 1
    assert deployment({})["strategy"] == {"type": "Recreate"}
    assert volume({}, "state") == {"persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_embedded_nothing_is_made_for_several_pods() -> None:
    """One pod has no autoscaler, no budget that would hold up a node's drain, and migrates its own file at its start."""
    kinds = {found["kind"] for found in rendered({})}

    assert not kinds & {"HorizontalPodAutoscaler", "PodDisruptionBudget", "Job"}


def test_a_claim_that_is_there_already_is_used() -> None:
    """A claim that is named is used, and none made."""
    values = {"state": {"existingClaim": "gateway"}}

    assert named("PersistentVolumeClaim", values) == []
    assert volume(values, "state") == {"persistentVolumeClaim": {"claimName": "gateway"}}


def test_with_a_database_alone_there_is_one_pod_on_a_volume() -> None:
    """Without Valkey turns are counted in the process, so a second one must not start; what the database can't take is on the volume."""
    values = MATRIX["one-on-postgresql"]

    assert deployment(values)["replicas"] == 1
    assert deployment(values)["strategy"] == {"type": "Recreate"}
    assert volume(values, "state").keys() == {"persistentVolumeClaim"}


def test_scaled_out_pods_are_replaced_one_by_one() -> None:
    """No pod is taken away before the new one is ready, none shares its state folder, and they are spread over zones and nodes."""
    spec = deployment(SCALED_OUT)

    assert spec["replicas"] == 3
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    assert volume(SCALED_OUT, "state") == {"emptyDir": {"sizeLimit": "1Gi"}}
    assert [one["topologyKey"] for one in spec["template"]["spec"]["topologySpreadConstraints"]] == [
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    ]
    assert named("PersistentVolumeClaim", SCALED_OUT) == []


def test_a_scaled_out_pods_state_may_stand_on_a_disk_of_its_own() -> None:
    """A volume that comes and goes with the pod, of a class that may keep the disk, holds the spool without a StatefulSet."""
    values = merged(SCALED_OUT, {"state": {"scaledOut": {"kind": "ephemeral", "storageClass": "retained", "size": "2Gi"}}})
    claim = volume(values, "state")["ephemeral"]["volumeClaimTemplate"]["spec"]

    assert claim["storageClassName"] == "retained"
    assert claim["resources"] == {"requests": {"storage": "2Gi"}}


def test_all_pods_can_be_stopped() -> None:
    """A release that needs all processes stopped is prepared by a number: none."""
    assert deployment({"replicas": 0})["replicas"] == deployment(merged(SCALED_OUT, {"replicas": 0}))["replicas"] == 0


def test_with_an_autoscaler_the_deployment_says_no_number() -> None:
    """A number in the Deployment would undo the autoscaler's at every upgrade."""
    values = merged(SCALED_OUT, {"autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 9}})
    (scaler,) = named("HorizontalPodAutoscaler", values)

    assert "replicas" not in deployment(values)
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (3, 9)
    assert scaler["spec"]["scaleTargetRef"]["name"] == named("Deployment", values)[0]["metadata"]["name"]


def test_one_scaled_out_pod_has_no_budget() -> None:
    """A budget for a single pod either says nothing or holds up a node's drain for ever."""
    assert named("PodDisruptionBudget", SCALED_OUT)
    assert named("PodDisruptionBudget", merged(SCALED_OUT, {"replicas": 1})) == []
    assert named("PodDisruptionBudget", merged(SCALED_OUT, {"podDisruptionBudget": {"enabled": False}})) == []


def test_the_migration_runs_before_the_pods() -> None:
    """Scaled out, the schema is brought forward once, by a hook that needs nothing of the chart's own but the database."""
    (job,) = named("Job", SCALED_OUT)
    pod = job["spec"]["template"]["spec"]

    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert pod["containers"][0]["args"] == ["db", "upgrade"]
    assert pod["containers"][0]["image"] == container(SCALED_OUT)["image"]
    assert [one["name"] for one in pod["containers"][0]["env"]] == ["GATEWAY_STATE_DIR", "GATEWAY_DATABASE_URL"]
    assert pod["serviceAccountName"] == "default"
    assert named("Job", merged(SCALED_OUT, {"migration": {"enabled": False}})) == []


def test_several_workers_are_asked_for_by_the_command() -> None:
    """Workers are processes of one pod; one is what `serve` does by itself."""
    assert container(SCALED_OUT)["args"] == ["serve"]
    assert container(merged(SCALED_OUT, {"workers": 4}))["args"] == ["serve", "--workers", "4"]


@pytest.mark.parametrize(("several", "asked"), SEVERAL)
def test_several_processes_need_postgresql_and_valkey(several: dict[str, Any], asked: str) -> None:
    """Several processes that don't share turns would each use Flxpoint's whole limit: refused, with what is missing alone."""
    neither = refusal(several)
    no_valkey = refusal({**several, **DATABASE, **KEYS})

    assert f"{asked}: several processes need database.existingSecret" in neither
    assert " and valkey.existingSecret" in neither
    assert f"{asked}: several processes need valkey.existingSecret" in no_valkey
    assert "database.existingSecret" not in no_valkey
    assert "database.existingSecret" in refusal({**several, **VALKEY, **KEYS})


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (VALKEY, "valkey.existingSecret: turns are shared for several processes"),
        (merged(SCALED_OUT, {"masterKeys": {"existingSecret": ""}}), "masterKeys.existingSecret: with PostgreSQL and Valkey"),
        ({"settings": {"GATEWAY_ENVIRONMENT": "production"}}, "masterKeys.existingSecret: in production"),
        ({"config": {"existingSecret": "a", "content": "tokens: []"}}, "config: only one of"),
        ({"config": {"existingConfigMap": "a", "existingSecret": "b"}}, "config: only one of"),
        ({"catalogue": {"existingConfigMap": "a", "content": "b"}}, "catalogue: only one of"),
        (DATABASE, "networkPolicy.egress.database.to: name the pods or addresses"),
        (merged(SCALED_OUT, {"networkPolicy": {"egress": {"valkey": {"to": []}}}}), "networkPolicy.egress.valkey.to: name"),
        (merged(SCALED_OUT, {"autoscaling": {"enabled": True, "minReplicas": 9}}), "autoscaling.minReplicas: must not exceed"),
    ],
)
def test_what_cant_run_is_refused_with_its_reason(values: dict[str, Any], reason: str) -> None:
    """What would only fail in the cluster, or run wrong there, fails while it is rendered."""
    assert reason in refusal(values)


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)
def test_every_pod_runs_one_image(values: dict[str, Any]) -> None:
    """The migration and the server are of one version, named by a tag or, where it is given, by its digest."""
    images = {one["image"] for pod in pods(values) for one in pod["containers"]}

    assert len(images) == 1


def test_an_image_is_named_by_tag_or_digest() -> None:
    """The chart's own version, unless a tag is given; a digest goes before both."""
    digest = f"sha256:{'0' * 64}"

    assert container({})["image"] == f"flxpoint-gateway:{loaded().version}"
    assert container({"image": {"tag": "1.2.3"}})["image"] == "flxpoint-gateway:1.2.3"
    assert container({"image": {"repository": "r.example/g", "tag": "1.2.3", "digest": digest}})["image"] == f"r.example/g@{digest}"
