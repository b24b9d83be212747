"""How long an engine may make no step. A limit that is too short kills busy engines."""

from __future__ import annotations

#: How much slower than the slowest warm-up step a step may be: warm-up has one token, other steps have hundreds.
SLOWER_THAN_WARM_UP = 20.0
#: How much slower steps may be while prompts are computed.
SLOWER_WITH_PROMPTS = 4.0


def stall_limit_s(engine_stall_s: float, warm_up_step_s: float, *, prefilling: bool) -> float:
    """Seconds after which an engine that has work but makes no step is taken for dead.

    `engine_stall_s` is the setting, `warm_up_step_s` the engine's own measurement (0: none), `prefilling` whether a
    sequence has no token yet.
    """
    limit_s = max(engine_stall_s, SLOWER_THAN_WARM_UP * warm_up_step_s)
    # An engine without a warm-up computes no prompts: the setting is exact for it.
    return limit_s * SLOWER_WITH_PROMPTS if prefilling and warm_up_step_s > 0 else limit_s
