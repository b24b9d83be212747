"""Which kinds of jobs there are. A new kind is one line here, and the class that it names; see `JobKind`."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """One kind. `implementation` is `module:Class`, imported when the first job of the kind needs it."""

    id_prefix: str
    implementation: str


KINDS = {
    "chat": Entry("chatcmpl", "gateway.kinds.chat_job:Chat"),
    "completion": Entry("cmpl", "gateway.kinds.completion_job:Completion"),
    "embedding": Entry("embd", "gateway.kinds.embedding_job:Embedding"),
    "addition": Entry("add", "gateway.kinds.addition_job:Addition"),
    "deployment": Entry("deploy", "gateway.kinds.deployment_job:Deployment"),
}
