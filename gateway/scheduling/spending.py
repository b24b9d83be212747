"""What a worker has made since Redis was told of it: tokens to charge API keys for, and to count for the shares."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from gateway.scheduling.lines import OUTPUT_COST, Charges
from gateway.store.connection import NOT_NOW


class Spending:
    """Of all models of a worker. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: By model, the cost of the tokens over the weight of their API key.
        self._charges = _nothing()
        #: Tokens by whether they are of background jobs.
        self._made: Counter[bool] = Counter()

    def count(self, model: str, key_id: str, tokens: int, *, background: bool, weight: int) -> None:
        """Tokens were made for a job. Below 0: so many of those before were none."""
        with self._lock:
            self._made[background] += tokens
            self._charges[model][background, key_id] += OUTPUT_COST * tokens / (weight or 1)

    def made(self) -> Counter[bool]:
        """Tokens since the last call, by whether they are of background jobs."""
        with self._lock:
            made, self._made = self._made, Counter()
        return made

    @contextlib.contextmanager
    def charging(self) -> Iterator[Mapping[str, Charges]]:
        """What is to be charged for now, by model. It stays to be charged if Redis does not take it."""
        with self._lock:
            charges, self._charges = self._charges, _nothing()
        try:
            yield charges
        except NOT_NOW:
            with self._lock:
                for model, of_model in charges.items():
                    for whose, cost in of_model.items():
                        self._charges[model][whose] += cost
            raise


def _nothing() -> defaultdict[str, defaultdict[tuple[bool, str], float]]:
    return defaultdict(lambda: defaultdict(float))
