"""deploy/kubernetes, read as Kubernetes reads it, as far as our files go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import yaml

from tests.support.local_services import Service
from tests.support.processes import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
COMPONENT = "app.kubernetes.io/component"
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")

Resource = Mapping[str, Any]


@cache
def resources() -> tuple[Resource, ...]:
    """Every document of every file."""
    files = sorted(FOLDER.glob("*.yaml"))
    return tuple(each for file in files for each in yaml.safe_load_all(file.read_text(encoding="utf-8")))


def of_kind(kind: str) -> list[Resource]:
    """All of a kind."""
    return [each for each in resources() if each["kind"] == kind]


def workloads() -> dict[str, Resource]:
    """Deployments and Jobs by their component, which is our word for what runs in them."""
    return {each["metadata"]["labels"][COMPONENT]: each for each in (*of_kind("Job"), *of_kind("Deployment"))}


def pod(component: str) -> Resource:
    """The pod's specification."""
    found: Resource = workloads()[component]["spec"]["template"]["spec"]
    return found


def container(component: str) -> Resource:
    """Its only container."""
    (found,) = pod(component)["containers"]
    return found  # type: ignore[no-any-return]


def probes(component: str) -> Iterator[tuple[str, Resource]]:
    """(the probe's name, the probe)."""
    return ((name, container(component)[name]) for name in PROBES if name in container(component))


def config() -> dict[str, str]:
    """What the ConfigMap holds."""
    (found,) = of_kind("ConfigMap")
    return dict(found["data"])


def secret_keys() -> dict[str, bool]:
    """Every key that is read of the Secret `reindexer`; whether it may be missing."""
    found: dict[str, bool] = {}
    for component in workloads():
        for each in container(component)["env"]:
            reference = each["valueFrom"]["secretKeyRef"]
            assert reference["name"] == "reindexer"
            found[reference["key"]] = reference.get("optional", False)
    return found


def our_service(component: str, configured: Mapping[str, str], secret: Mapping[str, str]) -> Service:
    """A workload's container, with the values of ConfigMap and Secret. Raises KeyError for a key that has to be there."""
    declared = container(component)
    assert declared["envFrom"] == [{"configMapRef": {"name": "reindexer"}}]
    environment = dict(configured)
    for each in declared["env"]:
        reference = each["valueFrom"]["secretKeyRef"]
        if reference["key"] in secret or not reference.get("optional", False):
            environment[each["name"]] = secret[reference["key"]]
    ready = declared.get("readinessProbe", {})
    return Service(
        declared["command"], environment, ready.get("exec", {}).get("command", ()), ready.get("timeoutSeconds", 1)
    )
