"""Times as clients see them: ISO 8601 in UTC."""

from __future__ import annotations

from schemas.base.times import iso, iso_seconds


def test_milliseconds_are_shown_and_0_is_never() -> None:
    assert iso(1_700_000_000_042) == "2023-11-14T22:13:20.042Z"
    assert iso(0) is None


def test_seconds_are_shown_to_the_second() -> None:
    assert iso_seconds(1_700_000_000.9) == "2023-11-14T22:13:20Z"
    assert iso_seconds(0) == "1970-01-01T00:00:00Z"
