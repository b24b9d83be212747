"""The first admin key: another one takes its place, and none that has ended comes back."""

from __future__ import annotations

import pytest
import redis

from gateway.access.api_keys import Credentials
from gateway.access.bootstrap import SETTING, bootstrap
from gateway.errors import Conflict, InvalidSetting, Unauthenticated

FIRST, SECOND, THIRD = (f"a-{word}-admin-key-of-old-times" for word in ("first", "second", "third"))


@pytest.fixture
def credentials(redis_client: redis.Redis) -> Credentials:
    return Credentials(redis_client)


def good(credentials: Credentials, *secrets: str) -> list[str]:
    """Those that are accepted."""
    found = []
    for secret in secrets:
        try:
            found.append(credentials.authenticate(secret).id)
        except Unauthenticated:
            continue
    return found


def test_a_restart_finds_the_key_that_is_there(credentials: Credentials) -> None:
    record = bootstrap(credentials, FIRST)
    assert bootstrap(credentials, FIRST) == record
    assert (record.name, record.scopes) == ("bootstrap", ("admin",))
    assert len(record.prefix) < len(FIRST) / 2
    assert credentials.list() == [record]


def test_another_secret_ends_the_one_before(credentials: Credentials) -> None:
    record = bootstrap(credentials, FIRST)
    assert bootstrap(credentials, SECOND).id == record.id
    assert [key.id for key in credentials.list()] == [record.id]
    assert good(credentials, FIRST, SECOND) == [record.id]
    with pytest.raises(Unauthenticated, match="of key 'bootstrap' was replaced"):
        credentials.authenticate(FIRST)


def test_a_process_that_still_has_the_old_one_changes_nothing(credentials: Credentials) -> None:
    bootstrap(credentials, FIRST)
    record = bootstrap(credentials, SECOND)
    with pytest.raises(Conflict, match="replaced"):
        bootstrap(credentials, FIRST)
    assert credentials.list() == [record]
    assert good(credentials, FIRST, SECOND) == [record.id]


def test_a_revoked_one_stays_revoked_and_another_takes_its_place(credentials: Credentials) -> None:
    first = bootstrap(credentials, FIRST)
    credentials.revoke(first.id)
    with pytest.raises(Conflict, match="is revoked"):
        bootstrap(credentials, FIRST)
    second = bootstrap(credentials, SECOND)
    assert second.id != first.id
    assert good(credentials, FIRST, SECOND) == [second.id]


def test_an_expired_one_hands_its_end_to_nobody(credentials: Credentials) -> None:
    credentials.update(bootstrap(credentials, FIRST).id, {"expires_at": 1})
    assert good(credentials, bootstrap(credentials, SECOND) and SECOND) != []


def test_an_admins_key_may_become_the_bootstrap_key(credentials: Credentials) -> None:
    bootstrap(credentials, FIRST)
    mine, secret = credentials.create("mine", ["admin"])
    assert bootstrap(credentials, secret) == mine
    assert good(credentials, FIRST, secret) == [mine.id]
    _, others = credentials.create("other", ["inference"])
    with pytest.raises(Conflict, match="'other', is no admin's"):
        bootstrap(credentials, others)
    assert good(credentials, secret) == [mine.id]


def test_keys_made_on_several_machines_do_not_end_each_other(credentials: Credentials) -> None:
    here, there = (bootstrap(credentials, secret, origin) for secret, origin in ((FIRST, "node:a"), (SECOND, "node:b")))
    assert here.id != there.id
    given = bootstrap(credentials, THIRD, SETTING, "node:a")
    assert given.id == here.id
    assert good(credentials, FIRST, SECOND, THIRD) == [there.id, given.id]


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        ("a", "it has 1 characters"),
        ("nineteen-characters", "it has 19 characters"),
        ("a" * 40, "1 different ones"),
        ("with a space in its twenty", "it has others"),
        ("ünïcöde-is-not-for-headers", "it has others"),
        ("a-line-break-at-its-end-of-it\n", "it has others"),
    ],
)
def test_a_weak_one_is_refused_in_one_line(credentials: Credentials, secret: str, said: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        bootstrap(credentials, secret)
    for part in (said, "HEADRACE_BOOTSTRAP_KEY", "at least 20", "openssl rand"):
        assert part in caught.value.message
    assert secret not in caught.value.message or len(secret) == 1
    assert credentials.list() == []
