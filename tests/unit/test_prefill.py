"""What of the waiting prompts the next step computes, by the speed that was measured."""

from __future__ import annotations

from collections.abc import Mapping

from workers.engines.prefill import (
    FIRST_EXPECTED,
    GAP_S,
    LEAST_ALONE_TOKENS,
    OLDEST_EACH,
    PASSING_STEPS,
    YIELDING_STRETCH,
    AnswerLengths,
    CacheRoom,
    Pace,
    Prefill,
    PrefixIndex,
    Prompt,
)

#: A device, in seconds: of a step that computes no prompt, and of each token of a prompt.
DECODE_S, TOKEN_S = 0.04, 0.0014
BLOCK = 32


def prefill(*, token_s: float = TOKEN_S) -> Prefill:
    """One that knows its device."""
    made = Prefill(block_tokens=BLOCK, max_step_tokens=512)
    for _ in range(50):
        made.pace.note(DECODE_S, tokens=0, decoding=True)
        made.pace.note(DECODE_S + 64 * token_s, tokens=64, decoding=True)
    return made


def served(made: Prefill, waiting: Mapping[int, int], *, decoding: int = 1, token_s: float = TOKEN_S) -> list[int]:
    """The prompts in the order in which they are computed to their end."""
    left, ended = dict(waiting), []
    while left:
        plan = made.plan([Prompt(*one) for one in left.items()], decoding=decoding)
        made.pace.note(DECODE_S + token_s * sum(plan.values()), tokens=sum(plan.values()), decoding=decoding > 0)
        for sequence_id, tokens in plan.items():
            left[sequence_id] -= tokens
            if not left[sequence_id]:
                del left[sequence_id]
                ended.append(sequence_id)
    return ended


def test_a_piece_is_as_long_as_the_gap_between_two_tokens_may_be() -> None:
    for token_s in (0.0005, TOKEN_S, 0.0025):
        (tokens,) = prefill(token_s=token_s).plan([Prompt(1, 6100)], decoding=1).values()
        assert tokens % BLOCK == 0
        assert GAP_S - BLOCK * token_s < DECODE_S + tokens * token_s <= GAP_S * 1.001


def test_a_block_is_the_least_however_slow_the_device_is() -> None:
    assert prefill(token_s=1.0).plan([Prompt(1, 6100)], decoding=1) == {1: BLOCK}
    assert prefill(token_s=1.0).plan([Prompt(1, 5)], decoding=1) == {1: 5}


def test_nobody_waits_for_the_gap_of_answers_that_are_not_made() -> None:
    (tokens,) = prefill().plan([Prompt(1, 6100)], decoding=0).values()
    assert tokens > 2 * prefill().plan([Prompt(1, 6100)], decoding=1)[1]
    assert prefill(token_s=0.1).plan([Prompt(1, 6100)], decoding=0) == {1: LEAST_ALONE_TOKENS}


def test_a_step_holds_no_more_than_the_engine_takes() -> None:
    assert prefill(token_s=1e-6).plan([Prompt(1, 6100), Prompt(2, 6100)], decoding=100) == {1: 512 - 128}


def test_nothing_waits_and_nothing_is_planned() -> None:
    assert prefill().plan([], decoding=3) == {}


def test_short_prompts_share_a_step_and_pass_a_long_one() -> None:
    made = prefill()
    plan = made.plan([Prompt(1, 6100), Prompt(2, 20), Prompt(3, 15), Prompt(4, 18)], decoding=1)
    assert plan == {3: 15, 4: 18, 2: 20}
    assert served(made, {1: 6100, 2: 3000, 3: 40}) == [3, 2, 1]


def test_a_long_prompt_gets_its_share_of_the_steps_however_many_short_ones_come() -> None:
    made, left, steps = prefill(), 640, 0
    while left > 0:
        shorts = [Prompt(2 + i, 64) for i in range(8)]
        plan = made.plan([Prompt(1, left), *shorts], decoding=1)
        made.pace.note(DECODE_S + TOKEN_S * sum(plan.values()), tokens=sum(plan.values()), decoding=True)
        left -= plan.get(1, 0)
        steps += 1
    assert steps <= OLDEST_EACH * 640 / 64


def test_prompts_that_yield_wait_for_those_that_do_not() -> None:
    made = prefill()
    plan = made.plan([Prompt(1, 20, yields=True), Prompt(2, 40), Prompt(3, 20)], decoding=1, yielding=1)
    assert plan == {3: 20, 2: 40}


def test_a_prompt_that_yields_makes_the_steps_of_others_a_bit_longer_only() -> None:
    made = prefill(token_s=0.0002)
    prompts = [Prompt(1, 6100, yields=True)]
    (alone,) = made.plan(prompts, decoding=3, yielding=3).values()
    (beside,) = made.plan(prompts, decoding=3, yielding=2).values()
    assert alone > 2 * beside
    assert BLOCK < beside <= YIELDING_STRETCH * DECODE_S / 0.0002 * 1.001


def test_a_prompt_that_yields_has_its_turn_however_many_others_come() -> None:
    made, left, steps = prefill(), 320, 0
    while left > 0:
        others = [Prompt(2 + i, 64) for i in range(8)]
        plan = made.plan([Prompt(1, left, yields=True), *others], decoding=1)
        assert plan.get(1, 0) < sum(plan.values()), "nor does it take a whole step"
        left -= plan.get(1, 0)
        steps += 1
    assert steps <= OLDEST_EACH * 320 / BLOCK


def test_the_speed_follows_the_device() -> None:
    pace = prefill().pace
    before = pace.tokens(decoding=True)
    for _ in range(30):
        pace.note(DECODE_S + 64 * 3 * TOKEN_S, tokens=64, decoding=True)
    assert abs(pace.tokens(decoding=True) * 3 - before) < 0.05 * before


def test_one_step_in_which_the_process_was_stopped_says_little() -> None:
    pace = prefill().pace
    before = pace.tokens(decoding=True)
    pace.note(30.0, tokens=64, decoding=True)
    pace.note(30.0, tokens=0, decoding=True)
    assert pace.tokens(decoding=True) > before / 2


def test_what_was_never_measured_begins_with_little() -> None:
    assert Prefill(block_tokens=BLOCK, max_step_tokens=512).plan([Prompt(1, 6100)], decoding=1) == {1: BLOCK}
    assert Pace().tokens(decoding=True) == 0


def test_an_answer_is_expected_to_be_as_long_as_those_that_have_ended() -> None:
    answers = AnswerLengths()
    assert answers.expected(made=0, max_tokens=8192) == FIRST_EXPECTED
    assert answers.expected(made=0, max_tokens=16) == 16
    for _ in range(200):
        answers.note(100)
    assert answers.expected(made=0, max_tokens=8192) == 200
    assert answers.expected(made=3000, max_tokens=8192) == 3000


def test_prompts_begin_that_fit_into_the_cache_together() -> None:
    room = CacheRoom(1000)
    assert room.fitting({1: 400, 2: 600, 3: 1}, taken=0) == [1, 2]
    assert room.fitting({1: 400, 2: 600, 3: 1}, taken=500) == [1, 3]
    assert room.fitting({1: 5000}, taken=0) == [1], "who is alone is refused elsewhere, or fits"


def test_others_pass_a_prompt_that_does_not_fit_but_not_for_ever() -> None:
    room, passed = CacheRoom(1000), 0
    while room.fitting({1: 900, 2 + passed: 10}, taken=500):
        passed += 1
    assert passed == PASSING_STEPS
    assert room.fitting({1: 900, 2 + passed: 10}, taken=100) == [1]


def test_the_beginning_that_two_prompts_share_is_known() -> None:
    index = PrefixIndex(block_tokens=4, num_blocks=8)
    index.add(index.names([1, 2, 3, 4, 5, 6, 7, 8, 9]))
    assert index.tokens(index.names([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])) == 8
    assert index.tokens(index.names([1, 2, 3, 4, 0, 6, 7, 8])) == 4
    assert index.tokens(index.names([0, 2, 3, 4, 5, 6, 7, 8])) == 0
    assert index.names([1, 2, 3]) == []


def test_the_blocks_that_were_used_least_recently_are_forgotten() -> None:
    index = PrefixIndex(block_tokens=1, num_blocks=4)
    first, second, third = index.names([1, 2]), index.names([3, 4]), index.names([5, 6])
    index.add(first)
    index.add(second)
    index.add(first)
    index.add(third)
    assert [index.tokens(names) for names in (first, second, third)] == [2, 0, 2]
