"""Every test of hypothesis in this folder runs for its time, see `budget.py`."""

from __future__ import annotations

import pytest

from tests.fuzz.budget import FUZZ_S, SHRINKING_S, rounds


def pytest_itemcollected(item: pytest.Item) -> None:
    """Time for the hunt, and for making what it finds small."""
    item.add_marker(pytest.mark.timeout(FUZZ_S + SHRINKING_S))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run it in rounds; other tests as they are."""
    if not getattr(pyfuncitem.obj, "is_hypothesis_test", False):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    rounds(getattr(pyfuncitem.obj, "__func__", pyfuncitem.obj), {name: pyfuncitem.funcargs[name] for name in names})
    return True
