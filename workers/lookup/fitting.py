"""How a model is proposed to be loaded on a device: its quantization and context. Knows sizes only, no files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.cluster.registry import Device
from gateway.deployments.memory import MIN_CONTEXT, Load, MemoryPlan, plan
from gateway.models.footprint import Footprint

#: A shorter context is not taken to keep the weights as they are stored, in tokens.
ENOUGH_CONTEXT = 8192


@dataclass(frozen=True)
class Fit:
    """One way to load it. `context_length` is in tokens."""

    quantization: str
    context_length: int
    plan: MemoryPlan

    def as_alternative(self, **change: Any) -> dict[str, Any]:
        """For who would rather have it so."""
        return {"change": change, "total_bytes": self.plan.total_bytes, "fits": self.plan.fits}


class Fitting:
    """A model with `engine` on a device, in batches of `max_batch_size`."""

    def __init__(
        self,
        footprint: Footprint,
        *,
        engine: str,
        device: Device,
        max_batch_size: int,
        context_length: int,
        quantizations: Sequence[str],
    ) -> None:
        self._footprint = footprint
        self._engine = engine
        self._device = device
        self._max_batch_size = max_batch_size
        self._own = context_length
        #: The best answers first.
        self._quantizations = quantizations

    def best(self) -> Fit:
        """As stored with all of its context, if that fits. Else with a shorter one, and only then quantized.

        If nothing fits, what is nearest to it.
        """
        enough = min(self._own, ENOUGH_CONTEXT)
        found = [self._longest(quantization) for quantization in self._quantizations]
        fitting = [fit for fit in found if fit.plan.fits]
        if not fitting:
            return min(found, key=lambda fit: fit.plan.peak_bytes)
        return next((fit for fit in fitting if fit.context_length >= enough), max(fitting, key=_context_of))

    def alternatives(self, taken: Fit) -> list[Mapping[str, Any]]:
        """The other quantizations, and the model's own context if it was shortened."""
        found: list[Mapping[str, Any]] = [
            self.of(quantization, taken.context_length).as_alternative(quantization=quantization)
            for quantization in self._quantizations
            if quantization != taken.quantization
        ]
        if taken.context_length < self._own:
            whole = self.of(taken.quantization, self._own)
            found.append(whole.as_alternative(context_length=self._own))
        return found

    def of(self, quantization: str, context_length: int) -> Fit:
        """The plan of one way."""
        load = Load(
            self._engine,
            quantization=quantization,
            max_batch_size=self._max_batch_size,
            context_length=context_length,
            device=self._device.device,
            device_bytes=self._device.memory_total,
        )
        return Fit(quantization, context_length, plan(self._footprint, load, self._device.memory_free))

    def _longest(self, quantization: str) -> Fit:
        """With the longest context that fits; with the shortest if none does."""
        for length in self._lengths():
            fit = self.of(quantization, length)
            if fit.plan.fits:
                return fit
        return fit

    def _lengths(self) -> Iterator[int]:
        """A plan that does not fit is made with a half of the context, as the planner of deployments does it."""
        yield self._own
        length = self._own // 2
        while length >= MIN_CONTEXT and self._footprint.kv_bytes_per_token:
            yield length
            length //= 2


def _context_of(fit: Fit) -> int:
    return fit.context_length
