"""The pods of the Helm chart, run by podman as a kubelet would: users, mounts, variables, probes and ends as rendered.

What it leaves out: scheduling, Services' addresses (a container has the name of its Service), network policies, and
volumes that outlive a pod.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests import helm
from tests.stack import eventually

#: How long a pod may take to be ready.
READY_S = 300
NETWORK = "headrace-pods"
_WORKLOADS = ("Deployment", "StatefulSet", "Job")


class Cluster:
    """The objects of a release, and the containers that run of them."""

    def __init__(self, folder: Path, images: Mapping[str, str], redis: str) -> None:
        self._folder = folder
        image = {name: dict(zip(("repository", "tag"), (of, "latest"), strict=True)) for name, of in images.items()}
        values = {"image": image, "redis": {"image": redis}, "flower": {"enabled": True}, "deploy": ["smollm2-135m"]}
        self.objects = helm.rendered(values, name="pods", namespace="default")
        subprocess.run(["podman", "network", "create", NETWORK], capture_output=True, check=False)  # it may be there

    def names(self) -> list[str]:
        """What runs for long: Redis first."""
        found = [name for kind, name in self.objects if kind in _WORKLOADS and kind != "Job"]
        return sorted(found, key=lambda name: name != "pods-redis")

    def start(self, name: str) -> None:
        """Start the pod of a workload, and wait until its probes say that it is ready."""
        _podman("run", "--detach", *self._options(name), *self._command(name))
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            if probe := self._container(name).get(kind):
                eventually(lambda probe=probe: self._passes(name, probe), f"the {kind} of {name} passes", READY_S)

    def run(self, name: str) -> str:
        """Run the pod of a Job to its end. Returns what it says."""
        return _podman("run", "--rm", *self._options(name), *self._command(name))

    def stop(self, name: str) -> int:
        """End a pod as its deletion does. Returns its exit status."""
        if hook := self._container(name).get("lifecycle", {}).get("preStop"):
            _podman("exec", name, *hook["exec"]["command"])
        _podman("stop", "--time", str(self._pod(name)["terminationGracePeriodSeconds"]), name)
        return int(_podman("inspect", "--format", "{{.State.ExitCode}}", name))

    def secret(self, entry: str) -> str:
        """An entry of the Secret."""
        return base64.b64decode(self.objects["Secret", "pods"]["data"][entry]).decode()

    def close(self) -> None:
        """End and remove everything."""
        for kind, name in self.objects:
            if kind in _WORKLOADS:
                _podman("rm", "--force", "--ignore", "--volumes", "--time", "2", name)
        _podman("network", "rm", "--force", NETWORK)

    def _workload(self, name: str) -> Any:
        return next(self.objects[kind, name] for kind in _WORKLOADS if (kind, name) in self.objects)

    def _pod(self, name: str) -> Any:
        return self._workload(name)["spec"]["template"]["spec"]

    def _container(self, name: str) -> Any:
        (container,) = self._pod(name)["containers"]
        return container

    def _command(self, name: str) -> list[str]:
        container = self._container(name)
        return [container["image"], *container.get("command", ()), *container.get("args", ())]

    def _options(self, name: str) -> list[str]:
        pod, container = self._pod(name), self._container(name)
        who, rights = pod["securityContext"], container["securityContext"]
        options = ["--name", name, "--hostname", f"{name}-0", "--network", NETWORK, "--no-healthcheck"]
        options += ["--user", f"{who['runAsUser']}:{who['runAsGroup']}", "--group-add", str(who["fsGroup"])]
        options += ["--security-opt", "no-new-privileges"] * (not rights["allowPrivilegeEscalation"])
        options += ["--read-only", "--read-only-tmpfs=false"] * rights["readOnlyRootFilesystem"]
        options += [f"--cap-drop={one}" for one in rights["capabilities"]["drop"]]
        for one in container.get("env", ()):
            options += ["--env", f"{one['name']}={self._value(name, one)}"]
        for mount in container["volumeMounts"]:
            source = self._volume(name, mount["name"])
            options += ["--volume", f"{source}:{mount['mountPath']}:{'ro' if mount.get('readOnly') else 'rw'}"]
        if name == "pods-web":
            options += ["--publish", "127.0.0.1:8000:8000"]
        return options

    def _value(self, name: str, variable: Mapping[str, Any]) -> str:
        """Of a variable: written there, an entry of a Secret, or the pod's name."""
        source = variable.get("valueFrom", {})
        if reference := source.get("secretKeyRef"):
            return base64.b64decode(self.objects["Secret", reference["name"]]["data"][reference["key"]]).decode()
        return f"{name}-0" if source else str(variable["value"])

    def _volume(self, name: str, volume: str) -> Path:
        """A folder of this machine that is the volume: with what the object holds, for the pod's group."""
        pod, folder = self._pod(name), self._folder / name / volume
        folder.mkdir(parents=True, exist_ok=True)
        group = pod["securityContext"]["fsGroup"]
        described = next((one for one in pod["volumes"] if one["name"] == volume), {})
        for path, content in self._contents(described).items():
            (folder / path).write_bytes(content)
            os.chown(folder / path, 0, group)
            (folder / path).chmod(described.get("secret", {}).get("defaultMode", 0o644))
        os.chown(folder, 0, group)
        folder.chmod(0o2775)
        return folder

    def _contents(self, volume: Mapping[str, Any]) -> dict[str, bytes]:
        if config := volume.get("configMap"):
            data = self.objects["ConfigMap", config["name"]]["data"]
            return {name: text.encode() for name, text in data.items()}
        if secret := volume.get("secret"):
            data = self.objects["Secret", secret["secretName"]]["data"]
            paths = {item["key"]: item["path"] for item in secret.get("items", ())} or {name: name for name in data}
            return {path: base64.b64decode(data[name]) for name, path in paths.items()}
        return {}

    def _passes(self, name: str, probe: Mapping[str, Any]) -> bool:
        state = json.loads(_podman("inspect", name))[0]["State"]
        assert state["Running"], f"{name} has ended: {_podman('logs', name)[-3000:]}"
        if "exec" in probe:
            done = subprocess.run(["podman", "exec", name, *probe["exec"]["command"]], capture_output=True, check=False)
            return done.returncode == 0
        if "httpGet" in probe:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:8000{probe['httpGet']['path']}", timeout=5).close()
            except OSError:
                return False
        return True


def _podman(*command: str) -> str:
    done = subprocess.run(["podman", *command], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"podman {' '.join(command)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout + done.stderr
