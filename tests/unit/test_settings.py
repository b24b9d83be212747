"""Settings name the variable, the value and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import InvalidSetting
from gateway.settings import Settings


def test_variables_win_over_the_file(tmp_path: Path) -> None:
    config = tmp_path / "headrace.toml"
    config.write_text('http_port = 9000\nnode = "a"\n')
    settings = Settings.load({"HEADRACE_CONFIG": str(config), "HEADRACE_NODE": "b"})
    assert (settings.http_port, settings.node) == (9000, "b")


def test_a_file_may_hold_a_value(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("redis://:pass@redis:6379/0\n")
    environ = {"HEADRACE_CONFIG": "/nowhere", "HEADRACE_REDIS_URL_FILE": str(secret)}
    assert Settings.load(environ).redis_url == "redis://:pass@redis:6379/0"
    assert Settings.load({**environ, "HEADRACE_REDIS_URL": "redis://other"}).redis_url == "redis://other"
    secret.unlink()
    with pytest.raises(InvalidSetting, match=r"HEADRACE_REDIS_URL_FILE is '.*url', which can't be read"):
        Settings.load(environ)


@pytest.mark.parametrize("value", ["many", "-1", "nan", "inf", "1.5"])
def test_a_bad_number_names_variable_value_and_what_is_allowed(value: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        Settings.load({"HEADRACE_CONFIG": "/nowhere", "HEADRACE_HTTP_PORT": value})
    assert "HEADRACE_HTTP_PORT" in caught.value.message
    assert value in caught.value.message


def test_a_switch_is_true_or_false() -> None:
    with pytest.raises(InvalidSetting, match=r"HEADRACE_GRPC_PLAINTEXT is 'maybe'; it must be true or false"):
        Settings.load({"HEADRACE_CONFIG": "/nowhere", "HEADRACE_GRPC_PLAINTEXT": "maybe"})


def test_a_word_is_one_of_those_that_are_allowed() -> None:
    with pytest.raises(InvalidSetting, match=r"HEADRACE_APPENDFSYNC is 'no'; it must be everysec or always"):
        Settings.load({"HEADRACE_CONFIG": "/nowhere", "HEADRACE_APPENDFSYNC": "no"})


@pytest.mark.parametrize("given", ["/llm", "llm", "/llm/"])
def test_a_root_path_has_a_slash_at_its_begin_only(given: str) -> None:
    assert Settings.load({"HEADRACE_CONFIG": "/nowhere", "HEADRACE_ROOT_PATH": given}).root_path == "/llm"
    assert Settings.load({"HEADRACE_CONFIG": "/nowhere", "HEADRACE_ROOT_PATH": "/"}).root_path == ""


@pytest.mark.parametrize("given", ["https://host/llm", "//host/llm", "/a//b", "/a/../b", "/a b", "/a?b"])
def test_a_root_path_is_a_path(given: str) -> None:
    with pytest.raises(InvalidSetting, match=r"HEADRACE_ROOT_PATH is .* must be a path such as /llm"):
        Settings.load({"HEADRACE_CONFIG": "/nowhere", "HEADRACE_ROOT_PATH": given})


def test_a_broken_file_is_refused_with_its_line(tmp_path: Path) -> None:
    config = tmp_path / "headrace.toml"
    config.write_text("http_port = 9000\nnode =\n")
    with pytest.raises(InvalidSetting, match="line 2"):
        Settings.load({"HEADRACE_CONFIG": str(config)})


def test_settings_survive_the_way_through_the_environment() -> None:
    settings = Settings(http_port=1234, lease_s=2.5, grpc_plaintext=True, grpc_reflection=False)
    assert Settings.load({"HEADRACE_CONFIG": "/nowhere", **settings.environ()}) == settings


def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "headrace.toml"
    config.write_text("http_prot = 9000\n")
    with pytest.raises(InvalidSetting, match="no setting 'http_prot'"):
        Settings.load({"HEADRACE_CONFIG": str(config)})


def test_a_child_process_needs_no_file(tmp_path: Path) -> None:
    config = tmp_path / "headrace.toml"
    config.write_text("broken")
    settings = Settings(config=config)
    assert Settings.load(settings.environ()) == settings
