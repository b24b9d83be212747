"""What happens after a call of a provider has failed: a pure decision. Knows no Redis, no SDK and no clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gateway.backoff import Backoff
from gateway.models.entry import Model
from workers.providers.failures import UpstreamFailure
from workers.providers.run import ProviderRun

#: Back-off before a retry, unless the provider sets the wait.
BACKOFF = Backoff(first_s=0.5, last_s=8.0, jitter=0.5)


@dataclass(frozen=True)
class Step:
    """Call (again), hand the job to another model, or fail."""

    #: Make a call.
    go: bool
    #: How a started answer goes on: `continue` or `restart`.
    mode: str = ""
    #: Why it is not the first call.
    reason: str = ""
    wait_s: float = 0.0
    #: Failed calls so far.
    tries: int = 0
    #: The model that takes over.
    next: str = ""
    #: The text for the client, if not the failure's own.
    message: str = ""


def after(
    failure: UpstreamFailure,
    *,
    run: ProviderRun,
    policy: str,
    others: Sequence[Model],
    continues: Callable[[Model], bool],
    tries: int,
    lost: bool = False,
    bound: bool = False,
) -> Step:
    """Decide.

    `policy`: the model's `on_interrupt`. `others`: fallbacks that can be asked now. `continues`: whether a model can
    continue the present text. `lost`: the call was made by a worker that is gone, so it may be billed. `bound`: the
    answer is worth nothing unless it is whole, so that it begins anew where nobody can go on with it.
    """
    if failure.refused:
        return Step(go=False)
    shown = run.transcript.has_output
    if policy == "continue" and bound and not any(map(continues, (*others, run.model))):
        policy = "restart"
    wait_s = BACKOFF.pause_s(tries + 1) if failure.retry_after_s is None else failure.retry_after_s
    wait_s = 0.0 if lost else wait_s
    again = (failure.retryable or lost) and tries < run.provider.max_retries and wait_s <= run.provider.max_retry_wait_s
    repeat = Step(go=True, mode=policy if shown else "", reason=failure.reason, wait_s=wait_s, tries=tries + 1)
    if policy == "fail" and (shown or lost):
        text = f"{failure.message} The answer broke in the middle, and {run.model.id} is set to fail then."
        return Step(go=False, message=text)
    if not shown:
        if again:
            return repeat
        return Step(go=False, mode="continue", next=others[0].id) if others else Step(go=False)
    able = [other for other in others if policy == "restart" or continues(other)]
    again = again and (policy == "restart" or continues(run.model))
    if again and (lost or not able):  # a worker that is lost says nothing against the provider
        return repeat
    if able:
        return Step(go=False, mode=policy, next=able[0].id)
    if policy == "restart" or continues(run.model):
        return Step(go=False)
    return Step(
        go=False,
        message=f"{failure.message} The answer broke in the middle, and no model that may take over can go on from its "
        "text. Send the request again.",
    )
