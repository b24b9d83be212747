"""What can wait is tried again until Redis answers, its caller gives up, or waiting does not help."""

from __future__ import annotations

import pytest
import redis.exceptions as errors

from gateway.store.connection import RETRY_S, retry_until_redis_answers


class GivenUp(Exception):
    """Nobody needs it any more."""


class Answers:
    """What a call comes to, one after the other."""

    def __init__(self, *outcomes: Exception | str) -> None:
        self._outcomes = list(outcomes)
        self.pauses: list[float] = []
        self.patience = 9

    def call(self) -> str:
        outcome = self._outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def wait(self, pause_s: float) -> None:
        self.pauses.append(pause_s)
        if len(self.pauses) > self.patience:
            raise GivenUp

    def result(self) -> str:
        return retry_until_redis_answers(self.call, what="a test", wait=self.wait)


AWAY = errors.ConnectionError("it is away")
FULL = errors.OutOfMemoryError("command not allowed")


def test_it_waits_until_redis_answers() -> None:
    answers = Answers(AWAY, FULL, "there")
    assert answers.result() == "there"
    assert answers.pauses == [RETRY_S] * 2


def test_it_ends_when_its_caller_gives_up() -> None:
    answers = Answers(AWAY, AWAY, "too late")
    answers.patience = 1
    with pytest.raises(GivenUp):
        answers.result()


@pytest.mark.parametrize("error", [errors.ResponseError("WRONGTYPE of the key"), ValueError("ours")])
def test_what_waiting_does_not_mend_is_raised_at_once(error: Exception) -> None:
    answers = Answers(error)
    with pytest.raises(type(error)):
        answers.result()
    assert answers.pauses == []
