"""How long an engine may be silent. A limit that is too short kills engines that only work hard."""

from __future__ import annotations

#: A step may take so many times as long as the slowest of the warm-up, which has one token where others have hundreds.
SLOWER_THAN_WARM_UP = 20.0
#: As long as prompts are computed, steps may take so many times as long as without.
SLOWER_WITH_PROMPTS = 4.0


def stall_limit_s(engine_stall_s: float, warm_up_step_s: float, *, prefilling: bool) -> float:
    """An engine that has work but makes no step for so long is taken for dead.

    `engine_stall_s` is the setting, `warm_up_step_s` what the engine has said of itself (0: it does not know), and
    `prefilling` whether a sequence is without its first token.
    """
    limit_s = max(engine_stall_s, SLOWER_THAN_WARM_UP * warm_up_step_s)
    # An engine without a warm-up computes no prompts: the setting is exact for it.
    return limit_s * SLOWER_WITH_PROMPTS if prefilling and warm_up_step_s > 0 else limit_s
