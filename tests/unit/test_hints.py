"""What is a hint, and what is none."""

from __future__ import annotations

import json

import pytest

from gateway.queue.wake_ups import is_command, is_hint, is_message, takes_hints
from tests.garbage import NOTHING, forms, message

FORMS = forms()


def test_a_hint_is_one() -> None:
    assert is_hint(json.dumps(message([["chatcmpl-0a1b"], {}, NOTHING])).encode())


@pytest.mark.parametrize("name", FORMS)
def test_garbage_is_none(name: str) -> None:
    assert not is_hint(FORMS[name])


def test_what_is_for_celery_itself_need_not_be_a_hint() -> None:
    control = message({"method": "ping", "arguments": {}}, headers={"clock": 1})
    assert is_message(control)
    assert is_command(control)
    for body in (None, [], {"arguments": {}}, {"method": 1}, {"method": "ping", "destination": 7}):
        assert not is_command(message(body))
    assert takes_hints("model.fake")
    assert takes_hints("gpu.n1.cpu0.fake")
    assert not takes_hints("1b2c.reply.celery.pidbox")
    assert not takes_hints("celeryev.0a1b")
