"""What can wait is tried again until Redis answers, its caller gives up, or waiting does not help."""

from __future__ import annotations

import pytest
import redis.exceptions as errors

from gateway.errors import JobNotFound, StoreUnavailable
from gateway.store.connection import RETRY_S, retry_until_redis_answers
from gateway.views import whole_answer
from gateway.views.whole_answer import read_when_there


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
WRONG_TYPE = errors.ResponseError("WRONGTYPE of the key")
MISSING = JobNotFound("no such job")


def test_it_waits_until_redis_answers() -> None:
    answers = Answers(AWAY, FULL, "there")
    assert answers.result() == "there"
    assert answers.pauses == [RETRY_S] * 2


def test_it_ends_when_its_caller_gives_up() -> None:
    answers = Answers(AWAY, AWAY, "too late")
    answers.patience = 1
    with pytest.raises(GivenUp):
        answers.result()


@pytest.mark.parametrize("error", [WRONG_TYPE, ValueError("ours")])
def test_what_waiting_does_not_mend_is_raised_at_once(error: Exception) -> None:
    answers = Answers(error)
    with pytest.raises(type(error)):
        answers.result()
    assert answers.pauses == []


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.connection.RETRY_S", 0.0)
    monkeypatch.setattr(whole_answer, "RETRY_S", 0.0)


@pytest.mark.usefixtures("no_pauses")
def test_an_answer_is_read_when_redis_has_it_again() -> None:
    answers = Answers(AWAY, MISSING, FULL, MISSING, "there")
    assert read_when_there(answers.call, client_left=lambda: False) == "there"


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("error", [WRONG_TYPE, ValueError("ours")])
def test_an_answer_that_can_not_be_read_is_an_error_at_once(error: Exception) -> None:
    answers = Answers(error, "never asked for")
    with pytest.raises(type(error)):
        read_when_there(answers.call, client_left=lambda: False)


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize(("error", "ends"), [(AWAY, StoreUnavailable), (MISSING, JobNotFound)])
def test_nobody_waits_for_an_answer_whose_client_has_left(error: Exception, ends: type[Exception]) -> None:
    answers = Answers(error, "too late")
    with pytest.raises(ends):
        read_when_there(answers.call, client_left=lambda: True)


@pytest.mark.usefixtures("no_pauses")
def test_an_answer_that_stays_lost_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_answer, "MISSING_S", -1.0)
    with pytest.raises(JobNotFound):
        read_when_there(Answers(MISSING, "too late").call, client_left=lambda: False)
