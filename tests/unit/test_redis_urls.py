"""URLs of Redis: what may stand in them, what is shown of them, and what Celery makes of them."""

from __future__ import annotations

import ssl
import warnings
from dataclasses import replace

import pytest
from kombu import Connection

from gateway.errors import InvalidSetting
from gateway.process.start import secrets_of
from gateway.queue.celery_app import broker_url, make_celery
from gateway.settings import Settings
from gateway.store.connection import connect
from gateway.store.redis_url import masked, sentinels, url_options

SECRET = "s3cret-word"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"redis://:{SECRET}@host:6379/0", "redis://:***@host:6379/0"),
        (f"redis://user:{SECRET}@host", "redis://user:***@host"),
        (f"rediss://host/0?password={SECRET}&ssl_cert_reqs=none", "rediss://host/0?password=***&ssl_cert_reqs=none"),
        (f"redis://host/0?db=1&PASSWORD={SECRET}", "redis://host/0?db=1&PASSWORD=***"),
        (f"unix://user:{SECRET}@/run/redis.sock?db=1", "unix://user:***@/run/redis.sock?db=1"),
        (f"redis://:{SECRET}/and@more@host:1", "redis://:***@host:1"),
        (f"redis://:{SECRET}#x@host", "redis://:***@host"),
        (f"user:{SECRET}@host:6379", "user:***@host:6379"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    assert masked(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}/x@host:1/0",
        f"redis://:{SECRET}#x@host:1",
        f"redis://user:{SECRET}@host:port",
        f"redis://user:{SECRET}@[::1",
        f"http://user:{SECRET}@host",
        f"sentinel://:{SECRET}@host",
        f"redis://:{SECRET}@host?socket_timeout=soon",
        f"redis://:{SECRET}@host?retry_on_error=x",
        f"redis://:{SECRET}@host?nonsense=1",
    ],
)
def test_a_url_that_can_not_be_used_is_refused_at_once_and_its_password_is_not_shown(url: str) -> None:
    settings = replace(Settings(), redis_url=url)
    for use in (connect, make_celery):
        with pytest.raises(InvalidSetting) as caught:
            use(settings)
        assert "HEADRACE_REDIS_URL" in caught.value.message
        assert SECRET not in caught.value.message
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("redis://host", ("host", 6379, None, None, "0")),
        ("redis://host:1/3", ("host", 1, None, None, "3")),
        ("redis://host:1?db=4", ("host", 1, None, None, "4")),
        ("redis://:p%40%2F%23@host", ("host", 6379, None, "p@/#", "0")),
        ("redis://user:p@[::1]:7/2", ("::1", 7, "user", "p", "2")),
        ("redis://host?username=u&password=p%26", ("host", 6379, "u", "p&", "0")),
    ],
)
def test_celery_and_redis_py_understand_the_same(url: str, wanted: tuple[object, ...]) -> None:
    info = Connection(broker_url(url)).info()
    assert (info["hostname"], info["port"], info["userid"], info["password"], info["virtual_host"]) == wanted
    ours = url_options(url)
    assert (ours["host"], ours.get("port", 6379)) == wanted[:2]
    backend = make_celery(replace(Settings(), redis_url=url)).backend.connparams
    assert (backend["host"], backend["port"], backend.get("username"), backend.get("password"), str(backend["db"])) == (
        wanted
    )


def test_a_socket_keeps_its_database_and_password() -> None:
    app = make_celery(replace(Settings(), redis_url="unix://:p%40@/run/redis.sock?db=3"))
    expected = {"path": "/run/redis.sock", "password": "p@"}
    assert {name: app.backend.connparams[name] for name in expected} == expected
    assert app.backend.connparams["db"] == 3


def test_tls_is_checked_unless_the_url_says_otherwise() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for url, wanted in (
            ("rediss://host?ssl_ca_certs=/ca.pem", ssl.CERT_REQUIRED),
            ("rediss://host?ssl_ca_certs=/ca.pem&ssl_cert_reqs=none", ssl.CERT_NONE),
        ):
            app = make_celery(replace(Settings(), redis_url=url))
            assert app.connection().ssl == {"ssl_cert_reqs": wanted, "ssl_ca_certs": "/ca.pem"}
            assert app.backend.connparams["ssl_cert_reqs"] == wanted
            assert app.backend.connparams["ssl_ca_certs"] == "/ca.pem"


def test_passwords_are_known_as_they_are_written_and_as_they_are_meant() -> None:
    settings = Settings(redis_url="redis://u:a%40b-secret@h?password=in-query", bootstrap_key="hr-bootstrap")
    assert {"a%40b-secret", "a@b-secret", "in-query", "hr-bootstrap"} <= set(secrets_of(settings))


def test_sentinels_may_be_many_and_have_another_password() -> None:
    found = sentinels("sentinel://user:p%40@h1:1,h2,[::1]:7/3?master_name=m&sentinel_username=u&sentinel_password=q%26")
    assert found is not None
    assert found.hosts == (("h1", 1), ("h2", 26379), ("::1", 7))
    assert found.options == {"username": "user", "password": "p@", "db": 3}
    assert (found.master_name, found.own_options, found.tls) == ("m", {"username": "u", "password": "q&"}, {})
    assert sentinels("redis://host") is None


def test_sentinels_speak_tls_as_soon_as_an_option_says_how() -> None:
    found = sentinels("sentinel://h/0?master_name=m&ssl_ca_certs=/ca.pem")
    assert found is not None
    assert found.own_options == {"ssl": True, "ssl_cert_reqs": "required", "ssl_ca_certs": "/ca.pem"}


def test_celery_asks_the_same_sentinels() -> None:
    url = "sentinel://:p%40@h1:1,[::1]:7/3?master_name=m&sentinel_password=q&ssl_ca_certs=/ca.pem"
    app = make_celery(replace(Settings(), redis_url=url))
    connection = app.connection()
    assert connection.alt == ["sentinel://:p%40@h1:1/3", "sentinel://:p%40@[::1]:7/3"]
    tls = {"ssl_cert_reqs": "required", "ssl_ca_certs": "/ca.pem"}
    assert connection.ssl == tls
    assert connection.transport_options["master_name"] == "m"
    assert connection.transport_options["sentinel_kwargs"] == {"password": "q", "ssl": True, **tls}
    assert [(one["host"], one["port"]) for one in app.backend.connparams["hosts"]] == [("h1", 1), ("::1", 7)]
    assert (app.backend.connparams["db"], app.backend.connparams["password"]) == (3, "p@")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"sentinel://:{SECRET}@h", "add \\?master_name=NAME"),
        (f"sentinel://:{SECRET}@h/0?master_name=", "add \\?master_name=NAME"),
        (f"sentinel://:{SECRET}@h,/0?master_name=m", "can't be read"),
        (f"sentinel://:{SECRET}@h:x/0?master_name=m", "can't be read"),
        (f"sentinel://:{SECRET}@h/0?master_name=m#x", "can't be read"),
        (f"sentinel://:{SECRET}@h/0?master_name=m&quorum=2", "the option 'quorum'. It may have: .*sentinel_password"),
    ],
)
def test_what_is_wrong_with_a_url_of_sentinels_is_said(url: str, said: str) -> None:
    for use in (connect, make_celery):
        with pytest.raises(InvalidSetting, match=said) as caught:
            use(replace(Settings(), redis_url=url))
        assert SECRET not in caught.value.message
