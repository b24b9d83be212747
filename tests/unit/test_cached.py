"""Values that are read at most twice a second."""

from __future__ import annotations

import threading

import pytest

from gateway.store.cached import Cached, CachedByName


@pytest.mark.parametrize(("age_s", "is_shown"), [(61, True), (121, False)])
def test_while_one_reads_the_value_anew_others_have_the_one_before_unless_it_is_old(
    age_s: float, is_shown: bool
) -> None:
    """What nobody has asked for in hours is nothing to tell the many who ask at once now."""
    cached: Cached[str] = Cached(for_s=60)
    assert cached.get(lambda: "first") == "first"
    cached._read_at -= age_s
    reading, may_end = threading.Event(), threading.Event()

    def read() -> str:
        reading.set()
        assert may_end.wait(60)
        return "second"

    reader = threading.Thread(target=cached.get, args=(read,))
    reader.start()
    assert reading.wait(60)
    assert cached.get(lambda: "third") == ("first" if is_shown else "third")
    may_end.set()
    reader.join()
    assert cached.get(lambda: pytest.fail("it was read")) == "second"


def test_what_could_not_be_read_is_read_again() -> None:
    cached: Cached[str] = Cached(for_s=60)

    def fail() -> str:
        raise OSError

    for _ in range(2):
        with pytest.raises(OSError):
            cached.get(fail)
    assert cached.get(lambda: "there") == "there"
    cached._read_at -= 61
    with pytest.raises(OSError):
        cached.get(fail)
    assert cached.get(lambda: "again") == "again"


def test_all_names_are_read_at_once_or_each_for_itself() -> None:
    asked: list[str | None] = []
    found = {"a": ["ant", "ape"], "b": ["bee"]}

    def read(name: str) -> list[str]:
        asked.append(name)
        return found[name]

    def read_all() -> dict[str, list[str]]:
        asked.append(None)
        return found

    words = CachedByName(read, read_all, [])
    assert [words.get("a"), words.get("a"), words.get("b")] == [["ant", "ape"], ["ant", "ape"], ["bee"]]
    assert asked == ["a", "b"]
    assert words.all() == found
    assert [words.get(name) for name in "abc"] == [["ant", "ape"], ["bee"], []]
    assert asked == ["a", "b", None]
