"""A key is named by its id, its name or its prefix, and never by chance."""

from __future__ import annotations

import pytest

from gateway.access.key_record import KeyRecord, called
from gateway.errors import Conflict, NotFound


def key(key_id: str, name: str, **fields: int) -> KeyRecord:
    return KeyRecord(id=key_id, name=name, prefix=f"hr-{key_id[:4]}", scopes=("inference",), created_at=1, **fields)


KNOWN = [
    key("aaaa0000", "team-a"),
    key("bbbb0000", "team-b", revoked_at=5),
    key("cccc0000", "team-b"),
    key("dddd0000", "twin"),
    key("eeee0000", "twin"),
    key("ffff0000", "gone", revoked_at=5),
    key("9999aaaa", "aaaa0000"),
]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("aaaa0000", "aaaa0000"),
        ("team-a", "aaaa0000"),
        ("team-b", "cccc0000"),
        ("bbbb0000", "bbbb0000"),
        ("gone", "ffff0000"),
        ("hr-dddd", "dddd0000"),
    ],
    ids=["id before name", "name", "active one", "revoked one by its id", "revoked one", "prefix"],
)
def test_one_is_found(name: str, found: str) -> None:
    assert called(KNOWN, name).id == found


def test_several_of_one_name_are_told_by_their_ids() -> None:
    with pytest.raises(Conflict, match="2 keys are called 'twin'; name one by its id: dddd0000, eeee0000") as caught:
        called(KNOWN, "twin")
    assert caught.value.reason == "key_ambiguous"


@pytest.mark.parametrize("name", ["nobody", "", "hr-ffff", "team"])
def test_none_is_not_found(name: str) -> None:
    with pytest.raises(NotFound):
        called(KNOWN, name)
