"""Downloads that are killed, cancelled and broken at random, over and over: whole at the end, not taken for it before.

A few rounds of each here; the full counts run with HEADRACE_FAULTS=full (`make faults`).
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.deployments.reasons import FailureReason, SourceFailed
from tests.downloads import HEADER, WEIGHTS, Download, publish, start
from tests.faults.conftest import TIMES
from tests.hub_server import Fault, HubServer
from tests.stack import eventually

#: About 2 MB a second.
SLOW = Fault(trickle_s=0.005, trickle_bytes=10_000)


def test_kills_cost_only_what_was_on_its_way(model_hub: HubServer, tmp_path: Path) -> None:
    """Given a fetch that is killed again and again, then each goes on where the disk says, and the last is whole."""
    repository, ref = publish(model_hub, tmp_path)
    size = len(repository.files[WEIGHTS])
    download = Download(tmp_path / "models", ref)
    part = download.part(WEIGHTS)
    have = 0
    for i in range(1, TIMES + 1):
        model_hub.faults[WEIGHTS].extend([HEADER, SLOW])
        process = start(tmp_path / "models", ref)
        goal = size * i // (TIMES + 1)
        try:
            eventually(lambda goal=goal: part.exists() and part.stat().st_size >= goal, "it has come so far")
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=60)
        asked = model_hub.requests(f"/{ref.revision}/{WEIGHTS}")[-1].range
        assert asked == (f"bytes={have}-" if have else "")
        have = part.stat().st_size
        assert goal <= have < size
        assert part.read_bytes() == repository.files[WEIGHTS][:have]
        assert not download.source.present()
    model_hub.faults.clear()
    download.require_whole(repository, download.fetch())
    assert model_hub.requests(f"/{ref.revision}/{WEIGHTS}")[-1].range == f"bytes={have}-"


@pytest.mark.parametrize("seed", range(3 * TIMES))
def test_any_mix_of_faults_ends_whole_or_with_a_reason(model_hub: HubServer, tmp_path: Path, seed: int) -> None:
    repository, ref = publish(model_hub, tmp_path)
    size = len(repository.files[WEIGHTS])
    chance = random.Random(seed)
    for name in (WEIGHTS, "config.json"):
        model_hub.faults[name].extend(_fault(chance, size) for _ in range(chance.randrange(30)))
    download = Download(tmp_path / "models", ref)
    path = None
    while path is None:
        polls = chance.choice([chance.randrange(1, 40), 1 << 30])
        try:
            path = download.fetch(_after(polls))
        except SourceFailed as error:
            assert not download.source.present()
            if error.reason is not FailureReason.SOURCE_UNREACHABLE:
                assert download.left == []
            assert error.reason in (
                FailureReason.SOURCE_UNREACHABLE,
                FailureReason.CHECKSUM,
                FailureReason.CANCELLED,
            )
        if path is None and chance.random() < 0.2:
            download.source.discard()
            assert download.left == []
        # What is wrong with a header is asked anew.
        download = Download(tmp_path / "models", ref)
    download.require_whole(repository, path)


def _fault(chance: random.Random, size: int) -> Fault:
    return chance.choice(
        [
            Fault(),
            Fault(cut_after=chance.randrange(size)),
            Fault(cut_after=0),
            Fault(status=chance.choice([429, 500, 503])),
            Fault(whole=True),
            Fault(damage=True),
            Fault(damage=True, cut_after=chance.randrange(size)),
        ]
    )


def _after(polls: int) -> Callable[[], bool]:
    """A cancel that comes when it has been asked for so often."""
    left = iter(range(polls))
    return lambda: next(left, None) is None
