"""Clients over gRPC: a stream that goes on with WatchJob, and a job that is polled."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import grpc

from tests.faults.matrix.load import BAD_ENDS, Client
from tests.rpc import details
from web.rpc.stubs import model_pb2 as pb

#: Not this client's fault: tried again.
_AGAIN = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}


class GrpcClient(Client):
    """Over the system's one channel."""

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.key}"), ("idempotency-key", self.mark))

    def _chat(self) -> pb.ChatCompletionRequest:
        messages = [pb.Message(role="user", content=self.prompt)]
        return pb.ChatCompletionRequest(model_id=self.model, messages=messages, max_tokens=self.tokens)

    def _on_error(self, error: grpc.RpcError) -> None:
        """An error is the end only if the job's record says so, or if it is this client's."""
        info = details(error).get("ErrorInfo")
        reason = f"{error.code().name} {info.reason if info else error.details()}"[:80]
        self._note(reason)
        if error.code() not in _AGAIN:
            self._fail(reason)
        elif self.job_id:
            self._look()

    def _look(self) -> pb.Job | None:
        job = self.world.rpc.jobs.GetJob(
            pb.GetJobRequest(job_id=self.job_id), metadata=self._metadata(), timeout=20, wait_for_ready=True
        )
        if job.status in BAD_ENDS:
            self._fail(job.error.reason or job.status)
        return job if job.status in (*BAD_ENDS, "completed") else None


class GrpcStream(GrpcClient):
    """CreateChatCompletionStream, then WatchJob."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cursor = (0, "")

    def _turn(self) -> None:
        try:
            if self.job_id:
                seq, claim = self._cursor
                request = pb.WatchJobRequest(job_id=self.job_id, from_seq=seq, from_claim=claim)
                for event in self.world.rpc.jobs.WatchJob(request, metadata=self._metadata(), timeout=150):
                    if event.WhichOneof("event") == "chat":
                        self._on_chunk(event.chat)
            else:
                stub = self.world.rpc.models.CreateChatCompletionStream
                call = stub(self._chat(), metadata=self._metadata(), timeout=150)
                self.job_id = dict(call.initial_metadata()).get("x-job-id", "")
                for chunk in call:
                    self._on_chunk(chunk)
        except grpc.RpcError as error:
            self._on_error(error)
        else:
            self.ended = True

    def _on_chunk(self, chunk: pb.ChatCompletionChunk) -> None:
        if chunk.HasField("rewound"):
            self.rewound += 1
            self.texts = defaultdict(str, {int(i): text for i, text in chunk.rewound.text.items()})
        if chunk.seq:
            self._cursor = (chunk.seq, chunk.claim)
            self.seqs.append(chunk.seq)
        for choice in chunk.choices:
            self._take(choice.index, choice.delta.content, choice.finish_reason or None)


class GrpcBackground(GrpcClient):
    """CreateJob, then GetJob again and again."""

    streams = False

    def _turn(self) -> None:
        try:
            if not self.job_id:
                request = pb.CreateJobRequest(chat=self._chat())
                found = self.world.rpc.jobs.CreateJob(request, metadata=self._metadata(), timeout=20)
                self.job_id = found.job_id
            elif (job := self._look()) and not self.ended:
                for choice in job.chat.choices:
                    self._take(choice.index, choice.message.content, choice.finish_reason)
                self.ended = True
        except grpc.RpcError as error:
            self._on_error(error)
