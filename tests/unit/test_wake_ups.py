"""What is a wake-up message, and what is none."""

from __future__ import annotations

import json

import pytest

from gateway.queue.wake_ups import holds_wake_ups, is_command, is_message, is_wake_up
from tests.garbage import NOTHING, forms, message

FORMS = forms()


def test_a_wake_up_message_is_one() -> None:
    assert is_wake_up(json.dumps(message([["chatcmpl-0a1b"], {}, NOTHING])).encode())
    assert is_wake_up(json.dumps(message([[], {}, NOTHING])).encode()), "there is work"


@pytest.mark.parametrize("name", FORMS)
def test_garbage_is_none(name: str) -> None:
    assert not is_wake_up(FORMS[name])


def test_what_is_for_celery_itself_need_not_be_a_wake_up_message() -> None:
    control = message({"method": "ping", "arguments": {}}, headers={"clock": 1})
    assert is_message(control)
    assert is_command(control)
    for body in (None, [], {"arguments": {}}, {"method": 1}, {"method": "ping", "destination": 7}):
        assert not is_command(message(body))
    assert holds_wake_ups("model.fake")
    assert holds_wake_ups("gpu.n1.cpu0.fake")
    assert not holds_wake_ups("1b2c.reply.celery.pidbox")
    assert not holds_wake_ups("celeryev.0a1b")
