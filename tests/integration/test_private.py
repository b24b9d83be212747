"""Nothing secret is readable for others: no file of the data folder, no key in a file of what was said, no password."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.access.certificates import authority
from gateway.settings import Settings
from gateway.store.embedded import server_command
from tests.homes import Home, new_home
from tests.stack import REPOSITORY, eventually
from tests.tls import tls_proxy

PASSWORD = "p@ss/w0rd#of-redis"
QUOTED = "p%40ss%2Fw0rd%23of-redis"
NOBODY = 65_534


@pytest.fixture
def home() -> Iterator[Home]:
    """A data folder that others can reach, as a careless user has made it before."""
    folder = Path(tempfile.mkdtemp(prefix="hr-"))
    folder.chmod(0o755)
    (folder / "var" / "logs").mkdir(parents=True)
    (folder / "var").chmod(0o755)
    home = new_home(folder)
    before = os.umask(0o022)
    yield home
    os.umask(before)
    home.command("down")
    shutil.rmtree(folder)


def content(folder: Path) -> dict[Path, bytes]:
    """All files below a folder, apart from sockets."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def keys_of(home: Home) -> dict[str, str]:
    """The secrets that are kept in files of their own."""
    return {path.name: path.read_text().strip() for path in (Path(home.data) / "keys").iterdir()}


def chat(home: Home, content: str) -> None:
    headers = {"Authorization": f"Bearer {keys_of(home)['bootstrap']}"}
    url = f"http://127.0.0.1:{home.environ['HEADRACE_HTTP_PORT']}/models/fake/chat/completions"
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 2}
    assert httpx.post(url, headers=headers, json=body, timeout=60).status_code == 200


def test_others_can_read_nothing_and_keys_are_in_no_file_but_their_own(home: Home) -> None:
    up = home.command("up", "--detach")
    assert up.returncode == 0, up.stdout
    secrets = keys_of(home)
    for name in ("bootstrap", "flower.password"):
        assert secrets[name] in up.stdout, "the caller's terminal shows them"
    chat(home, "a confidential prompt")
    data = Path(home.data)
    opened = {path: oct(mode(path)) for path in (data, *data.rglob("*")) if mode(path) & 0o077}
    assert [path for path in opened if not path.is_symlink()] == []
    assert stat.S_IMODE(data.stat().st_mode) == 0o700, "one that was open is closed"
    found = [path for path, text in content(data).items() if any(key.encode() in text for key in secrets.values())]
    assert {path.parent.name for path in found} == {"keys"}
    assert any(b"a confidential prompt" in text for path, text in content(data).items() if path.suffix == ".aof")
    if os.geteuid() == 0:
        everything = "find . -type f -exec cat {} +"
        as_nobody = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        tried = subprocess.run(
            ["sh", "-c", everything], cwd=home.folder, capture_output=True, check=False, timeout=60, **as_nobody
        )
        assert b"Permission denied" in tried.stderr
        assert not any(key.encode() in tried.stdout for key in secrets.values())
        assert b"confidential" not in tried.stdout


@pytest.mark.slow
def test_what_is_said_into_a_file_names_the_files_of_keys_instead(home: Home) -> None:
    process = home.start("up")
    eventually(lambda: "Ctrl-C ends everything" in home.said or process.poll() is not None, "it is up", 120)
    said, secrets = home.said, keys_of(home)
    assert f"$(cat {home.data}/keys/bootstrap)" in said
    assert f"$(cat {home.data}/keys/flower.password)" in said
    assert not any(key in said for key in secrets.values())
    process.terminate()
    assert process.wait(60) == 0


def test_a_process_that_is_started_by_hand_keeps_to_itself_too(home: Home) -> None:
    command = [sys.executable, "-m", "gateway.store.embedded"]
    server = subprocess.Popen(command, cwd=REPOSITORY, env=home.environ, stdout=subprocess.DEVNULL)
    try:
        data = Path(home.data)
        eventually((data / "redis.sock").exists, "it listens")
        eventually(lambda: list(data.rglob("*.aof")), "it has its file")
        assert [path for path in (data, *data.rglob("*")) if mode(path) & 0o077 and path.name != "logs"] == []
    finally:
        server.terminate()
        server.wait(60)


def test_a_folder_that_all_users_share_is_refused_and_left_as_it_is(home: Home) -> None:
    shared = home.folder / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    refused = home.command("up", HEADRACE_DATA_DIR=str(shared))
    assert refused.returncode == 1
    assert "shared by all users" in refused.stdout
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777


def test_everything_runs_over_tls_with_a_password_that_nobody_gets_to_see(home: Home) -> None:
    redis = home.folder / "redis"
    redis.mkdir()
    with authority(Settings(data_dir=home.folder)) as ca:
        certificate = ca.issue("redis", "redis", names=("127.0.0.1", "localhost"))
    command = [*server_command(redis / "r.sock", redis), "--requirepass", PASSWORD]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        eventually((redis / "r.sock").exists, "Redis listens")
        with tls_proxy(certificate, redis / "r.sock") as port:
            query = f"ssl_ca_certs={certificate.with_name('ca.pem')}"
            home.environ["HEADRACE_REDIS_URL"] = f"rediss://:{QUOTED}@localhost:{port}/2?{query}"
            said = [home.command("up", "--detach")]
            assert said[0].returncode == 0, said[0].stdout
            assert "fake: active" in said[0].stdout, "agents and model workers get their wake-up messages"
            assert f"Redis at rediss://:***@localhost:{port}/2" in said[0].stdout
            said += [home.command(*words) for words in (("status",), ("doctor",), ("key", "list"), ("logs",))]
            assert " 0 restarts" in said[1].stdout
            assert not any(f" {count} restarts" in said[1].stdout for count in range(1, 9)), said[1].stdout
            wrong = home.environ["HEADRACE_REDIS_URL"].replace(QUOTED, f"wrong-{QUOTED}")
            said += [home.command("key", "list", HEADRACE_REDIS_URL=wrong)]
            assert said[-1].returncode == 1
            said += [home.command("down")]
            texts = [one.stdout for one in said]
            texts += [text.decode(errors="replace") for text in content(Path(home.data)).values()]
            assert not [text for text in texts if QUOTED in text or PASSWORD in text]
    finally:
        server.terminate()
        server.wait(60)


def mode(path: Path) -> int:
    """Of a file; 0 if it is gone, as Redis' temporary ones are soon."""
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        return 0
