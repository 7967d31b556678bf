"""What the manifests of deploy/kubernetes say; tests/integration/test_kubernetes.py runs it."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import yaml
from kubernetes_validate import ValidationError, validate

import reindexer
from reindexer.core.lanes import LANES
from reindexer.core.queues import Names
from reindexer.monitoring.heartbeat import STALE_S
from reindexer.monitoring.metrics import METRICS
from tests.support import manifests
from tests.support.docs import blocks, settings_and_defaults
from tests.support.manifests import COMPONENT, container, of_kind, pod, probes, resources, workloads
from tests.support.processes import ROOT

PAGE = ROOT / "docs" / "kubernetes.md"
LASTING = [each["metadata"]["labels"][COMPONENT] for each in of_kind("Deployment")]


def versions() -> list[str]:
    found = re.search(r"^KUBERNETES := (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    return found[1].split()


def named(resource: manifests.Resource) -> str:
    return f"{resource['kind']} {resource['metadata']['name']}"


@pytest.mark.parametrize("resource", {each["kind"]: each for each in resources()}.values(), ids=named)
def test_a_schema_of_every_kind_is_known_and_finds_what_does_not_fit(resource: dict[str, Any]) -> None:
    """`make lint` validates for all versions; its command passes over kinds that it does not know."""
    wrong = copy.deepcopy(resource)
    wrong["metadata"]["unheard_of"] = "x"
    for version in versions():
        with pytest.raises(ValidationError, match="unheard_of"):
            validate(wrong, version, strict=True)


def test_three_versions_are_looked_at_and_the_page_names_them() -> None:
    assert len(versions()) == 3
    assert all(version in PAGE.read_text(encoding="utf-8") for version in versions())


def test_there_is_what_the_program_consists_of() -> None:
    assert workloads().keys() == {"migrate", "listener", "worker-live", "worker-bulk", "api"}
    assert [named(each) for each in of_kind("Service")] == ["Service reindexer-api"]
    assert of_kind("Secret") == [], "secrets are named, and not here"
    assert workloads()["listener"]["spec"]["replicas"] == 2


@pytest.mark.parametrize("component", workloads())
def test_pods_are_what_the_restricted_security_standard_asks_for(component: str) -> None:
    its_pod, its_container = pod(component), container(component)
    assert its_pod["securityContext"]["runAsNonRoot"]
    assert its_pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert its_container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not its_pod["automountServiceAccountToken"]
    assert {kind for each in its_pod["volumes"] for kind in each.keys() - {"name"}} <= {"emptyDir", "configMap"}
    uid = its_pod["securityContext"]["runAsUser"]
    assert f"--uid {uid} " in (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.mark.parametrize("component", workloads())
def test_containers_are_of_this_version_and_reserve_memory(component: str) -> None:
    its = container(component)
    assert its["image"] == f"reindexer:{reindexer.__version__}"
    assert its["resources"].keys() == {"requests", "limits"}
    assert its["resources"]["requests"].keys() == {"cpu", "memory"}
    assert its["resources"]["limits"].keys() == {"memory"}, "a limit of CPU only makes edits late"
    assert {"name": "tmp", "mountPath": "/tmp"} in its["volumeMounts"]


@pytest.mark.parametrize("component", workloads())
def test_every_variable_is_a_setting_and_none_comes_by_itself(component: str) -> None:
    names = {each["name"] for each in container(component)["env"]} | manifests.config().keys()
    assert names <= settings_and_defaults().keys()
    assert pod(component)["enableServiceLinks"] is False, "else REINDEXER_API_PORT=tcp://…, which is no setting"


def test_migrate_finds_the_sources_file_in_its_working_directory() -> None:
    assert {"name": "sources", "mountPath": container("migrate")["workingDir"], "readOnly": True} in (
        container("migrate")["volumeMounts"]
    )


def test_no_process_but_migrate_gets_the_owners_database_url() -> None:
    urls = {
        component: reference["key"]
        for component in workloads()
        for each in container(component)["env"]
        if (reference := each["valueFrom"]["secretKeyRef"])["key"].endswith("DATABASE_URL")
    }
    assert urls == {
        "migrate": "MIGRATE_DATABASE_URL",
        "listener": "LISTENER_DATABASE_URL",
        "worker-live": "WORKER_DATABASE_URL",
        "worker-bulk": "WORKER_DATABASE_URL",
        "api": "API_DATABASE_URL",
    }


def test_the_page_makes_a_secret_with_every_key() -> None:
    (env_file,) = (each.text for each in blocks(PAGE) if each.language == "ini")
    assert set(re.findall(r"^ *(\w+)=", env_file, re.MULTILINE)) == manifests.secret_keys().keys()
    optional = {key for key, may_be_missing in manifests.secret_keys().items() if may_be_missing}
    assert optional == {"OPENAI_API_KEY", "QDRANT_API_KEY"}


@pytest.mark.parametrize("component", LASTING)
def test_selectors_select_the_pods_that_they_are_for(component: str) -> None:
    deployment = workloads()[component]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels == deployment["metadata"]["labels"]
    (spread,) = pod(component)["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == labels
    (budget,) = (each for each in of_kind("PodDisruptionBudget") if each["metadata"]["labels"] == labels)
    assert budget["spec"]["selector"]["matchLabels"] == labels
    assert budget["spec"]["maxUnavailable"] == 1


def test_the_service_leads_to_the_api() -> None:
    (service,) = of_kind("Service")
    assert service["spec"]["selector"] == workloads()["api"]["spec"]["template"]["metadata"]["labels"]
    (port,) = service["spec"]["ports"]
    (declared,) = container("api")["ports"]
    assert port["targetPort"] == declared["name"]
    assert str(declared["containerPort"]) in container("api")["command"]


def test_workers_consume_a_lane_each_and_check_their_own_node() -> None:
    queues = []
    for lane in LANES:
        command = container(f"worker-{lane}")["command"]
        queues.append(command[command.index("-Q") + 1])
        for _, probe in probes(f"worker-{lane}"):
            test = probe["exec"]["command"]
            assert test[test.index("--node") + 1] == command[command.index("-n") + 1]
    assert queues == list(Names().queues())


@pytest.mark.parametrize("component", [each for each in LASTING if each != "api"])
def test_a_stuck_process_is_restarted_within_four_minutes_and_none_because_a_server_is_away(component: str) -> None:
    of = dict(probes(component))
    ready, liveness = of["readinessProbe"]["exec"]["command"], of["livenessProbe"]["exec"]["command"]
    assert of["startupProbe"]["exec"]["command"] == ready
    assert liveness == [*ready, "--liveness"]
    alive = of["livenessProbe"]
    assert STALE_S + alive["failureThreshold"] * (alive["periodSeconds"] + alive["timeoutSeconds"]) <= 240


def test_the_api_is_asked_for_itself_alone() -> None:
    asked = {name: probe["httpGet"] for name, probe in probes("api")}
    assert asked.keys() == set(manifests.PROBES)
    assert all(each == {"path": "/healthz", "port": "http"} for each in asked.values())


def test_nothing_goes_in_or_out_but_what_is_named() -> None:
    policies = {each["metadata"]["name"].removeprefix("reindexer-"): each["spec"] for each in of_kind("NetworkPolicy")}
    ours = {"app.kubernetes.io/name": "reindexer"}
    assert policies.pop("deny") == {"podSelector": {"matchLabels": ours}, "policyTypes": ["Ingress", "Egress"]}
    assert policies.keys() == {"to-dns", "to-postgres", "to-redis", "to-qdrant", "to-provider", "to-api"}
    everyone = set(workloads())
    reach = dict.fromkeys(("to-dns", "to-postgres"), everyone)
    reach["to-redis"] = everyone - {"migrate"}
    reach["to-qdrant"] = reach["to-provider"] = everyone - {"migrate", "listener"}
    reach["to-api"] = {"api"}
    for name, spec in policies.items():
        selector = spec["podSelector"]
        assert ours.items() <= selector["matchLabels"].items()
        by_label = {selector["matchLabels"].get(COMPONENT)} - {None} or everyone
        by_expression = {value for each in selector.get("matchExpressions", ()) for value in each["values"]} or everyone
        assert by_label & by_expression == reach[name], name
        (rule,) = spec.get("egress") or spec.get("ingress")
        assert rule["ports"], name
        assert rule.get("to") or rule.get("from"), name


def test_the_example_that_scales_bulk_workers_names_what_there_is() -> None:
    (scaled,) = (
        found for each in blocks(PAGE) if each.language == "yaml" if (found := yaml.safe_load(each.text)).get("kind")
    )
    assert (scaled["apiVersion"], scaled["kind"]) == ("keda.sh/v1alpha1", "ScaledObject")
    assert scaled["spec"]["scaleTargetRef"]["name"] == workloads()["worker-bulk"]["metadata"]["name"]
    assert 1 <= scaled["spec"]["minReplicaCount"] < scaled["spec"]["maxReplicaCount"], (
        "one goes on: bulk work is late, not lost"
    )
    (trigger,) = scaled["spec"]["triggers"]
    query = trigger["metadata"]["query"]
    assert set(re.findall(r"reindexer_\w+", query)) <= METRICS.keys()
    assert 'reindexer_due_items{lane="bulk",state="ready"}' in query
    assert int(trigger["metadata"]["threshold"]) > 0
