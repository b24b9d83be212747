"""How a model is proposed to be loaded on a device: its quantization and context. Knows sizes only, no files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.cluster.registry import Device
from gateway.deployments.memory import MIN_CONTEXT, Load, MemoryPlan, plan
from gateway.models.footprint import Footprint

#: A shorter context is not taken to keep the weights as they are stored, in tokens.
ENOUGH_CONTEXT = 8192
#: Sizes of the KV cache that are tried, in sequences of full length; 0 = the default.
CACHES = (0, 4, 2, 1)


@dataclass(frozen=True)
class Fit:
    """One way to load it. Lengths are in tokens; `cache_tokens` is 0 for the default."""

    quantization: str
    context_length: int
    cache_tokens: int
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
        """As stored, with all of its context and the default cache, if that fits.

        Else with a smaller cache, with a shorter context, and only then quantized. If nothing fits: the smallest.
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
            self._of(quantization, taken.context_length, taken.cache_tokens).as_alternative(quantization=quantization)
            for quantization in self._quantizations
            if quantization != taken.quantization
        ]
        if taken.context_length < self._own:
            whole = self._of(taken.quantization, self._own, self._own)
            found.append(whole.as_alternative(context_length=self._own))
        return found

    def stored_in(self, size_bytes: int, *, floats: bool) -> Fit:
        """The same model in another file of this size, whose weights are numbers of 16 bits or quantized."""
        bits = 16.0 if floats else min(self._footprint.bits_per_weight, 8.0)
        count = size_bytes // 2 if floats else self._footprint.num_parameters
        footprint = replace(self._footprint, weights_bytes=size_bytes, num_parameters=count, bits_per_weight=bits)
        other = Fitting(
            footprint,
            engine=self._engine,
            device=self._device,
            max_batch_size=self._max_batch_size,
            context_length=self._own,
            quantizations=self._quantizations,
        )
        return other.best()

    def _of(self, quantization: str, context_length: int, cache_tokens: int = 0) -> Fit:
        load = Load(
            self._engine,
            quantization=quantization,
            max_batch_size=self._max_batch_size,
            context_length=context_length,
            cache_tokens=cache_tokens,
            device=self._device.device,
            device_bytes=self._device.memory_total,
        )
        found = plan(self._footprint, load, self._device.memory_free)
        return Fit(quantization, context_length, cache_tokens, found)

    def _longest(self, quantization: str) -> Fit:
        """With the longest context that fits, and the largest cache for it; with the smallest if none does."""
        for length in self._lengths():
            for sequences in CACHES:
                fit = self._of(quantization, length, sequences * length)
                if fit.plan.fits:
                    return fit
        return fit

    def _lengths(self) -> Iterator[int]:
        """A half, a quarter and so on, as the planner of deployments tries them."""
        yield self._own
        length = self._own // 2
        while length >= MIN_CONTEXT and self._footprint.kv_bytes_per_token:
            yield length
            length //= 2


def _context_of(fit: Fit) -> int:
    return fit.context_length
