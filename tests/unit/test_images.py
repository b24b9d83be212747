"""The images, as far as that can be told without building them: context, locks, bases, and what a linter says.

tests/containers builds and runs them.
"""

from __future__ import annotations

import configparser
import re
import subprocess
import sysconfig
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import wheel

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
#: All that an image is built from.
CONTEXT = {*wheel.SOURCE, *wheel.FILES, "docker"}
#: What lies about in a checkout that is used, and must be in no image.
SECRETS = [
    "var/keys/bootstrap",
    "var/redis/appendonlydir/appendonly.aof",
    ".git/config",
    ".venv/pyvenv.cfg",
    ".clients/node/package.json",
    "tests/tls.py",
    "docs/faults.json",
    "headrace.toml",
    ".env",
    "docker/.env",
    "docker/providers.env",
    "docker/config/headrace.toml",
    "build/lib/cli/main.py",
    "headrace.egg-info/PKG-INFO",
    "cli/__pycache__/main.cpython-311.pyc",
    "gateway/store/__pycache__/keys.cpython-311.pyc",
    "gateway/.env",
    "workers/id_rsa.pem",
    "web/tls.key",
]


def context(folder: Path) -> set[str]:
    """The files of the build context, as Docker's own SDK sends them."""
    patterns = (ROOT / ".dockerignore").read_text().splitlines()
    paths = exclude_paths(
        str(folder), [line for line in patterns if line and not line.startswith("#")], "docker/Dockerfile"
    )
    # Those two are always sent, for the builder itself.
    return {path for path in paths if (folder / path).is_file()} - {"docker/Dockerfile", ".dockerignore"}


def test_the_context_has_what_the_wheel_is_built_from_and_nothing_else() -> None:
    found = context(ROOT)
    assert {path.split("/")[0] for path in found} == CONTEXT
    locks = {f"docker/{name}.lock" for name in ("web", "worker", "models")}
    assert {path for path in found if path.startswith("docker/")} == locks
    packages = [name for name in wheel.SOURCE if name != "docs"]
    source = {str(path.relative_to(ROOT)) for name in packages for path in (ROOT / name).rglob("*.py")}
    assert {*source, "docs/redis.md", "docs/examples/nginx.conf"} <= found


def test_nothing_that_a_used_checkout_holds_beside_the_source_is_sent(tmp_path: Path) -> None:
    for name in [*SECRETS, "cli/main.py", "docker/web.lock"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert context(tmp_path) == {"cli/main.py", "docker/web.lock"}


def test_the_linter_of_dockerfiles_has_nothing_to_say() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run(
        [hadolint, ROOT / "docker" / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_base_is_pinned_by_tag_and_digest() -> None:
    stages = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    names = re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE, re.MULTILINE)
    assert {stage for stage in stages if stage not in names} == {"${PYTHON}"}
    assert re.search(
        r"^ARG PYTHON=docker\.io/library/python:3\.11\.\d+-slim-\w+@sha256:[0-9a-f]{64}$", DOCKERFILE, re.M
    )


def test_the_packages_come_before_the_source() -> None:
    """Else an edit of the source would install all of them again."""
    for target in ("web", "worker"):
        stage = DOCKERFILE.split(f"FROM base AS {target}\n")[1].split("\nFROM ")[0]
        assert stage.index(f"--from={target}-packages") < stage.index("--from=wheel")
        packages = DOCKERFILE.split(f" AS {target}-packages\n")[1].split("\nFROM ")[0]
        assert re.findall(r"^COPY (.*)$", packages, re.M) == [
            "docker/web.lock /locks/" if target == "web" else "docker/worker.lock docker/models.lock /locks/"
        ]


def test_both_images_run_as_the_same_fixed_user_and_check_their_health() -> None:
    for target, probe in (("web", "web"), ("worker", "agent")):
        stage = DOCKERFILE.split(f"FROM base AS {target}\n")[1].split("\nFROM ")[0]
        assert "\nUSER 10001:10001\n" in stage
        assert re.search(rf'^HEALTHCHECK .*CMD \["python", "-m", "cli.probe", "{probe}"\]$', stage, re.M)
    assert "useradd --uid 10001" in DOCKERFILE


@pytest.mark.parametrize(("image", "extra"), [("web", "providers"), ("web", "otel"), ("worker", "worker")])
def test_a_lock_has_what_setup_cfg_asks_for(image: str, extra: str) -> None:
    """Pinned and with hashes. A version of setup.cfg that has changed wants `make locks`."""
    pinned = _lock(image)
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    asked = setup["options"]["install_requires"] + setup["options.extras_require"][extra]
    wanted = [Requirement(line) for line in asked.splitlines() if line.strip() and not line.startswith("#")]
    assert len(wanted) > 20
    if extra == "worker":
        (torch,) = [one for one in wanted if one.name == "torch"]
        assert f'"${{TORCH_INDEX}}" torch{torch.specifier}\n' in DOCKERFILE
        wanted.remove(torch)
    missing = [str(one) for one in wanted if not one.specifier.contains(pinned.get(canonicalize_name(one.name), "0"))]
    assert missing == []


def _lock(image: str) -> dict[str, str]:
    """The versions of a lock. Each package must have a hash."""
    entries = re.split(r"^(?=[a-z0-9])", (ROOT / "docker" / f"{image}.lock").read_text(), flags=re.MULTILINE)[1:]
    assert all(re.match(r"[a-z0-9-]+==\S+ \\\n( +--hash=sha256:[0-9a-f]{64}( \\)?\n)+$", entry) for entry in entries)
    return dict(entry.split(" ")[0].split("==") for entry in entries)
