"""The Helm chart, rendered by Helm itself: every object is one that Kubernetes takes, confined, probed, and drained."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import kubernetes_validate
import pytest
from cryptography import x509

from cli.deployments import deploy
from cli.probe import PROBES
from gateway.settings import Settings
from tests.helm import HelmError, Objects, linted, rendered
from workers.agent.container import AGENT_END_S, WORKER_END_S

#: The oldest version that the chart says it runs on, and the newest whose schemas are there.
VERSIONS = ("1.29", "1.37")
WORKLOADS = ("Deployment", "StatefulSet", "Job")
#: Everything that can be switched on.
ALL: dict[str, Any] = {
    "config": '[models.large]\nprovider = "openai"\n',
    "flower": {"enabled": True},
    "deploy": ["smollm2-135m"],
    "web": {"env": {"HEADRACE_CORS_ORIGINS": ""}, "ingress": {"enabled": True, "host": "a.example", "tlsSecret": "t"}},
    "rpc": {"tls": {"names": ["grpc.a.example"], "clientCa": True}},
    "keeper": {"replicas": 2},
    "provider": {"replicas": 2, "envFrom": [{"secretRef": {"name": "keys"}}]},
    "networkPolicy": {"clients": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]},
    "workers": [
        {"name": "cpu", "replicas": 3, "device": "cpu0", "storage": {"size": "5Gi", "className": "fast"}},
        {
            "name": "gpu",
            "replicas": 1,
            "device": "cuda0",
            "gpus": 1,
            "tag": "cuda",
            "shutdownS": 300,
            "models": ["team/large model", "other"],
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "autoscaling": {"enabled": True, "min": 2, "max": 8, "waitS": 3},
        },
    ],
}


@pytest.fixture(scope="module", params=[{}, ALL], ids=["default", "all"])
def objects(request: pytest.FixtureRequest) -> Objects:
    return rendered(request.param)


@pytest.fixture(scope="module")
def everything() -> Objects:
    return rendered(ALL)


def pods(objects: Objects) -> dict[str, dict[str, Any]]:
    """The specs of all pods, by what makes them."""
    return {name: one["spec"]["template"]["spec"] for (kind, name), one in objects.items() if kind in WORKLOADS}


def containers(objects: Objects) -> dict[str, dict[str, Any]]:
    """The one container of each."""
    return {name: spec["containers"][0] for name, spec in pods(objects).items()}


def variables(container: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in container.get("env", ())}


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field(objects: Objects, version: str) -> None:
    for one in objects.values():
        if not one["apiVersion"].startswith("keda.sh/"):
            kubernetes_validate.validate(one, version, strict=True)


def test_the_linter_of_charts_has_nothing_to_say() -> None:
    for values in ({}, ALL):
        report = linted(values)
        assert report["errors"] == []
        assert [one["error"] for one in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"redis": {"enable": False}}, "additional properties 'enable' not allowed"),
        ({"redis": {"enabled": False}}, "Without redis.enabled set redis.url, or secrets.existing"),
        ({"redis": {"enabled": False, "url": "host:6379"}}, "does not match pattern"),
        ({"workers": [{"name": "Bad_Name", "replicas": 1}]}, "does not match pattern"),
        (
            {"workers": [{"name": "a", "replicas": 1, "autoscaling": {"enabled": True}}]},
            "the pool a has autoscaling, but",
        ),
        ({"web": {"replicas": 0}}, "minimum: got 0, want 1"),
        ({"web": {"ingress": {"enabled": True}}}, "web.ingress.host is empty"),
    ],
)
def test_bad_values_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(HelmError, match=re.escape(said)):
        rendered(values)


def test_every_pod_is_confined(objects: Objects) -> None:
    for name, spec in pods(objects).items():
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}


def test_what_is_mounted_is_there_and_the_other_way_round(objects: Objects) -> None:
    for (kind, name), one in objects.items():
        if kind not in WORKLOADS:
            continue
        spec = one["spec"]["template"]["spec"]
        claimed = {claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", ())}
        there = {volume["name"] for volume in spec["volumes"]} | claimed
        assert {mount["name"] for mount in spec["containers"][0]["volumeMounts"]} == there, name
        for volume in spec["volumes"]:
            secret, config = volume.get("secret", {}).get("secretName"), volume.get("configMap", {}).get("name")
            assert not secret or ("Secret", secret) in objects
            assert not config or ("ConfigMap", config) in objects


def test_every_process_that_stays_is_probed_by_a_command_that_there_is(objects: Objects) -> None:
    for name, container in containers(objects).items():
        if name.endswith(("-deploy", "-redis", "-web")):
            continue
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            command = container[kind]["exec"]["command"]
            assert command[:3] == ["python", "-m", "cli.probe"]
            assert command[3] in PROBES
            assert ("--live" in command) == (kind == "livenessProbe"), "a restart can't help while Redis is away"
    web = containers(objects)["r-web"]
    assert (web["livenessProbe"]["httpGet"]["path"], web["readinessProbe"]["httpGet"]["path"]) == (
        "/health/live",
        "/health/ready",
    )


def test_what_drains_is_given_the_time_for_it(objects: Objects) -> None:
    for name, spec in pods(objects).items():
        shutdown_s = float(variables(spec["containers"][0]).get("HEADRACE_SHUTDOWN_S", 0))
        grace_s = spec["terminationGracePeriodSeconds"]
        if "-worker-" in name:
            assert shutdown_s >= 120
            assert grace_s > shutdown_s + AGENT_END_S + WORKER_END_S
        if name.endswith(("-web", "-rpc")):
            assert spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"] == ["sleep", "5"]
            assert grace_s >= 20


def test_a_node_is_named_after_its_pod_and_keeps_its_models(everything: Objects) -> None:
    for pool in ("cpu", "gpu"):
        worker = everything["StatefulSet", f"r-worker-{pool}"]
        (container,) = worker["spec"]["template"]["spec"]["containers"]
        assert {"name": "HEADRACE_NODE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}} in container["env"]
        assert [claim["metadata"]["name"] for claim in worker["spec"]["volumeClaimTemplates"]] == ["data"]
        assert ("Service", worker["spec"]["serviceName"]) in everything
    assert everything["StatefulSet", "r-worker-cpu"]["spec"]["replicas"] == 3
    assert "replicas" not in everything["StatefulSet", "r-worker-gpu"]["spec"], "KEDA counts them"


def test_a_pool_of_gpus(everything: Objects) -> None:
    container = containers(everything)["r-worker-gpu"]
    assert container["image"] == "headrace-worker:cuda"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert variables(container)["HEADRACE_DEVICE"] == "cuda0"
    assert variables(container)["HEADRACE_RESIDENT_MODELS"] == "team/large model other"


def test_keda_asks_what_there_is(everything: Objects) -> None:
    spec = everything["ScaledObject", "r-worker-gpu"]["spec"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "r-worker-gpu"}
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, 8)
    known = {"scaleTargetRef", "minReplicaCount", "maxReplicaCount", "pollingInterval", "cooldownPeriod", "advanced"}
    assert spec.keys() == known | {"triggers"}
    age, demand = spec["triggers"]
    for trigger in (age, demand):
        assert trigger["type"] == "metrics-api"
        assert trigger["metadata"]["url"] == "http://r-web.llm.svc:8000/queue?model=team%2Flarge+model"
        assert all(isinstance(value, str) for value in trigger["metadata"].values())
        assert ("TriggerAuthentication", trigger["authenticationRef"]["name"]) in everything
    assert (age["metricType"], age["metadata"]["targetValue"]) == ("Value", "3")
    assert (demand["metricType"], demand["metadata"]["targetValue"]) == ("AverageValue", "32")
    # tests/integration/test_queue.py has the same fields from the real endpoint.
    answer = {"data": {"models": [{"interactive": {"oldest_wait_s": 1.5}, "demand": 7}]}}
    assert [_gjson(answer, one["metadata"]["valueLocation"]) for one in (age, demand)] == [1.5, 7]
    (reference,) = everything["TriggerAuthentication", "r-worker"]["spec"]["secretTargetRef"]
    assert reference["key"] in everything["Secret", reference["name"]]["data"]


def test_secrets_are_in_secrets_only(objects: Objects) -> None:
    data = {name: base64.b64decode(value).decode() for name, value in objects["Secret", "r"]["data"].items()}
    assert re.fullmatch(r"hr-\w{43}", data["bootstrap-key"])
    password = re.fullmatch(r"redis://:(\w{40})@r-redis:6379/0", data["redis-url"])
    assert password
    assert data["redis.conf"] == f"requirepass {password[1]}\n"
    others = json.dumps([one for (kind, _), one in objects.items() if kind != "Secret"])
    assert not [value for value in (data["bootstrap-key"], password[1]) if value in others]
    admins = {name for name, spec in pods(objects).items() if '"bootstrap-key"' in json.dumps(spec)}
    assert admins == {"r-web", "r-rpc"} | ({"r-deploy"} & pods(objects).keys())


def test_the_certificate_is_for_the_service_and_the_names_that_were_given(everything: Objects) -> None:
    data = everything["Secret", "r-tls"]["data"]
    made = x509.load_pem_x509_certificate(base64.b64decode(data["tls.crt"]))
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    assert {"r-rpc", "r-rpc.llm.svc.cluster.local", "localhost", "grpc.a.example"} <= set(names)
    made.verify_directly_issued_by(x509.load_pem_x509_certificate(base64.b64decode(data["ca.crt"])))
    assert variables(containers(everything)["r-rpc"])["HEADRACE_TLS_CLIENT_CA"] == "/tls/ca.crt"


def test_ones_own_secrets_and_redis_are_used() -> None:
    found = rendered(
        {"secrets": {"existing": "mine"}, "redis": {"enabled": False}, "rpc": {"tls": {"existing": "my-tls"}}}
    )
    assert not [name for kind, name in found if kind == "Secret" or name == "r-redis"]
    volumes = [volume for spec in pods(found).values() for volume in spec["volumes"] if "secret" in volume]
    assert {volume["secret"]["secretName"] for volume in volumes} == {"mine", "my-tls"}


def test_where_there_are_several_one_goes_at_a_time(everything: Objects) -> None:
    budgets = {name: one["spec"] for (kind, name), one in everything.items() if kind == "PodDisruptionBudget"}
    assert budgets.keys() == {
        f"r-{part}" for part in ("web", "rpc", "keeper", "provider", "redis", "worker-cpu", "worker-gpu")
    }
    for name, spec in budgets.items():
        assert spec["maxUnavailable"] == (0 if name == "r-redis" else 1)
        kinds = [everything.get((kind, name)) for kind in ("Deployment", "StatefulSet")]
        (target,) = filter(None, kinds)
        assert spec["selector"] == target["spec"]["selector"]


def test_services_and_policies_choose_pods_that_there_are(objects: Objects) -> None:
    labels = {
        name: one["spec"]["template"]["metadata"]["labels"]
        for (kind, name), one in objects.items()
        if kind in WORKLOADS
    }
    for (kind, name), one in objects.items():
        if kind in ("Service", "NetworkPolicy"):
            wanted = one["spec"]["selector"] if kind == "Service" else one["spec"]["podSelector"]["matchLabels"]
            assert [pod for pod, has in labels.items() if wanted.items() <= has.items()], (kind, name)


def test_every_command_and_variable_exists(everything: Objects) -> None:
    known = {f"HEADRACE_{name.upper()}" for name in (*Settings.__dataclass_fields__, "api_key")}
    for container in containers(everything).values():
        names = {name.removesuffix("_FILE") for name in variables(container) if name.startswith("HEADRACE_")}
        assert names <= known
    script = containers(everything)["r-deploy"]["command"][2]
    options = {option for parameter in deploy.params for option in parameter.opts}
    assert set(re.findall(r"--\w+", script)) <= options


def test_the_configuration_is_a_file_that_is_read() -> None:
    found = rendered(ALL)
    assert found["ConfigMap", "r"]["data"]["headrace.toml"] == ALL["config"]
    for container in containers(found).values():
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert "/etc/headrace" in mounts or "redis" in container["image"]


def _gjson(value: Any, path: str) -> Any:
    """What a path of names and indexes leads to, as KEDA reads it."""
    for part in path.split("."):
        value = value[int(part)] if part.isdecimal() else value[part]
    return value
