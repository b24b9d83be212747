"""How long a server asks to wait."""

from __future__ import annotations

import email.utils
import time

import pytest

from schemas.base.retry_after import retry_after_s


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, 0.0),
    ],
)
def test_retry_after_is_read(headers: dict[str, str], wait_s: float | None) -> None:
    assert retry_after_s(headers) == wait_s


def test_retry_after_may_be_a_date() -> None:
    wait_s = retry_after_s({"retry-after": email.utils.formatdate(time.time() + 100, usegmt=True)})
    assert wait_s is not None
    assert 90 < wait_s <= 100
