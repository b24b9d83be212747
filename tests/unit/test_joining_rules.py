"""What machines that join are given, without a network: where Redis is, which settings win, and where to listen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cli.cluster.exchange import Gateway, keep
from gateway.cluster.join_address import join_url, listen_address
from gateway.cluster.joining import ALIKE, _redis, reach
from gateway.errors import InvalidSetting
from gateway.joined import joined_path
from gateway.settings import Settings
from gateway.store.redis_url import url_options
from schemas.cluster.joining import JoinAnswer, TokenParts

HEAD = Gateway("head", 6380)


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("unix:///run/redis.sock?db=3", "/run/redis.sock"),
        ("redis://:p@localhost/1", ("localhost", 6379)),
        ("redis://[::1]:7", ("::1", 7)),
        ("redis://10.0.0.1", None),
        ("rediss://localhost", None),
        ("sentinel://localhost/0?master_name=m", None),
    ],
)
def test_the_listener_passes_on_what_is_on_its_own_machine(url: str, where: object) -> None:
    assert reach(url) == where


def test_who_reaches_redis_through_the_listener_gets_what_the_url_has_besides(tmp_path: Path) -> None:
    assert _redis("") == {}
    assert _redis("redis://u:p%40@127.0.0.1:7/2") == {"username": "u", "password": "p@", "db": 2}
    settings = Settings(data_dir=tmp_path)
    keep(settings, HEAD, JoinAnswer("n", "", username="u", password="p@", db=2), device="cpu0")
    found = Settings.load({"HEADRACE_DATA_DIR": str(tmp_path), "HEADRACE_CONFIG": "/none"})
    options = url_options(found.redis_url)
    assert found.redis_url.startswith("rediss://u:p%40@head:6380/2?")
    assert (options["username"], options["password"], options["db"]) == ("u", "p@", 2)
    assert options["ssl_check_hostname"] is False
    assert options["ssl_certfile"] == f"{tmp_path}/joined/node.pem"


def test_a_redis_of_ones_own_is_handed_on_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("the CA")
    url = f"rediss://:p@redis.example.com:6380/0?ssl_ca_certs={tmp_path}/ca.pem&ssl_cert_reqs=required"
    given = _redis(url)
    assert given == {"redis_url": url, "redis_files": {"ssl_ca_certs": "the CA"}}
    settings = Settings(data_dir=tmp_path / "other")
    settings.data_dir.joinpath("joined").mkdir(parents=True)
    keep(settings, HEAD, JoinAnswer("n", "", **given))
    found = Settings.load({"HEADRACE_DATA_DIR": str(settings.data_dir), "HEADRACE_CONFIG": "/none"})
    path = Path(url_options(found.redis_url)["ssl_ca_certs"])
    assert path.is_relative_to(settings.data_dir)
    assert (path.read_text(), path.stat().st_mode & 0o077) == ("the CA", 0)
    with pytest.raises(InvalidSetting, match="ssl_ca_certs of HEADRACE_REDIS_URL is '/none', which can't be read"):
        _redis("rediss://host?ssl_ca_certs=/none")


def test_variables_and_the_file_of_settings_win_over_what_the_gateway_gave(tmp_path: Path) -> None:
    config = tmp_path / "headrace.toml"
    config.write_text("drain_s = 3\n")
    given = {"drain_s": "1.0", "lease_s": "1.0", "grace_s": "1.0", "from_a_newer_version": "1"}
    joined_path(tmp_path).write_text(json.dumps({"gateway": HEAD.url, "settings": given}))
    environ = {"HEADRACE_DATA_DIR": str(tmp_path), "HEADRACE_CONFIG": str(config), "HEADRACE_LEASE_S": "2"}
    found = Settings.load(environ, grace_s=9.0)
    assert (found.lease_s, found.drain_s, found.grace_s) == (2.0, 3.0, 1.0)
    for text in ("{", "[]", '{"settings": 1}'):
        joined_path(tmp_path).write_text(text)
        with pytest.raises(InvalidSetting, match="Join again, or remove the file"):
            Settings.load(environ)


def test_what_all_machines_have_alike_are_settings_and_no_secrets() -> None:
    assert set(ALIKE) <= set(vars(Settings()))
    assert not {name for name in ALIKE if "key" in name and not name.startswith("key_max")}


def test_where_to_listen_may_be_said_shortly() -> None:
    assert listen_address("0.0.0.0") == ("0.0.0.0", 6380)
    assert listen_address("[::1]:7") == ("::1", 7)
    assert listen_address("head.example.com:8443") == ("head.example.com", 8443)
    assert join_url("10.0.0.1") == "https://10.0.0.1:6380"
    assert join_url("[::1]:7") == "https://[::1]:7"
    assert not join_url("0.0.0.0").startswith("https://0")
    for wrong in ("", ":7", "a:b", "a:0", "https://a", "a/b", "u@a", "a:99999"):
        with pytest.raises(InvalidSetting, match=r"HEADRACE_LISTEN is .* it must be HOST:PORT"):
            listen_address(wrong)


def test_a_token_can_be_read_as_it_was_written() -> None:
    parts = TokenParts("a" * 40, "0" * 64)
    assert TokenParts.parse(f" {parts}\n") == parts
    for wrong in ("", "hrj-", f"hrj-{'a' * 40}", f"{parts}0", str(parts).upper()):
        assert TokenParts.parse(wrong) is None


def test_settings_of_a_machine_that_has_not_joined_are_its_own(tmp_path: Path) -> None:
    found = Settings.load({"HEADRACE_DATA_DIR": str(tmp_path), "HEADRACE_CONFIG": "/none", "HEADRACE_NODE": "n"})
    assert replace(found, node="m").redis_url == ""
