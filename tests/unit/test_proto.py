"""The proto file, the stubs that are made from it, and REST's schemas say the same."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
from marshmallow import Schema

from gateway.errors import InvalidRequest
from schemas import chat, deployments, embeddings, inference, keys, models, usage
from schemas.base.forms import FormSchema
from schemas.cluster import backlog, history, joining, nodes
from web.rpc.messages import build, build_text, chat_body, completion_body, embedding_body, to_dict
from web.rpc.methods import SERVICES
from web.rpc.status import cut
from web.rpc.stubs import model_pb2 as pb

ROOT = Path(__file__).parents[2]
#: Where REST has one field, `tool_choice`.
CHOICES = ("tool_choice_function", "tool_choice_object")


def test_the_stubs_are_what_protoc_makes_of_the_proto_file(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "grpc_tools.protoc", "-Iweb/rpc/stubs=proto"]
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    subprocess.run([*command, *outputs, "proto/model.proto"], cwd=ROOT, check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "web" / "rpc" / "stubs").iterdir()}
    assert made == {path.name: path.read_text() for path in (ROOT / "web" / "rpc" / "stubs").glob("*.py*")}


@pytest.mark.parametrize(
    ("schema", "message", "only_in_proto"),
    [
        (inference.ChatRequestSchema, pb.ChatCompletionRequest, {"model_id", "exact", *CHOICES}),
        (inference.CompletionRequestSchema, pb.CompletionRequest, {"model_id", "exact", "prompts", "prompt_ids"}),
        (embeddings.EmbeddingRequestSchema, pb.EmbeddingsRequest, {"model_id", "input_ids"}),
        (embeddings.EmbeddingsSchema, pb.EmbeddingsResponse, set()),
        (embeddings.EmbeddingSchema, pb.Embedding, set()),
        (embeddings.EmbeddingUsageSchema, pb.EmbeddingsUsage, set()),
        (inference.StreamOptionsSchema, pb.StreamOptions, set()),
        (chat.MessageSchema, pb.Message, {"extra", "parts", "reasoning_content", "refusal"}),
        (chat.ToolSchema, pb.Tool, {"custom"}),
        (chat.FunctionSchema, pb.Function, set()),
        (chat.ToolCallSchema, pb.ToolCall, {"index", "extra", "custom"}),
        (chat.CalledFunctionSchema, pb.FunctionCall, {"extra"}),
        (models.ModelSchema, pb.Model, set()),
        (models.ModelsQuerySchema, pb.ListModelsRequest, set()),
        (models.ModelDetailSchema, pb.GetModelResponse, set()),
        (models.ParametersSchema, pb.ModelParameters, set()),
        (models.StatsSchema, pb.ModelStats, set()),
        (models.LocalModelSchema, pb.LocalModel, set()),
        (models.LocalDeploymentSchema, pb.LocalDeployment, set()),
        (models.PerformanceSchema, pb.Performance, set()),
        (deployments.DeployRequestSchema, pb.DeployLocalModelRequest, set()),
        (deployments.DeploymentConfigSchema, pb.DeploymentConfig, set()),
        (deployments.DeployAnswerSchema, pb.DeployLocalModelResponse, set()),
        (deployments.PlanSchema, pb.MemoryPlan, set()),
        (deployments.ScaleRequestSchema, pb.ScaleLocalModelRequest, {"model_id"}),
        (deployments.DeploymentListQuerySchema, pb.ListDeploymentsRequest, set()),
        (deployments.DeploymentSummarySchema, pb.DeploymentSummary, set()),
        (deployments.DeploymentDetailSchema, pb.GetDeploymentStatusResponse, set()),
        (deployments.StageSchema, pb.DeploymentStage, set()),
        (deployments.LogLineSchema, pb.DeploymentLog, set()),
        (deployments.ReplicaFactsSchema, pb.DeploymentReplica, set()),
        (deployments.DeploymentErrorSchema, pb.DeploymentError, set()),
        (deployments.CancelledDeploymentSchema, pb.CancelDeploymentResponse, set()),
        (deployments.UnloadedSchema, pb.UnloadLocalModelResponse, set()),
        (keys.KeyWithLeftSchema, pb.Key, set()),
        (keys.KeyRequestSchema, pb.CreateKeyRequest, set()),
        (keys.NewKeySchema, pb.NewKey, set()),
        (keys.KeyChangeSchema, pb.UpdateKeyRequest, {"key_id"}),
        (keys.RotationSchema, pb.RotateKeyRequest, {"key_id"}),
        (keys.RevokedKeySchema, pb.RevokedKey, set()),
        (keys.KeyListSchema, pb.ListKeysResponse, set()),
        (usage.UsageQuerySchema, pb.GetUsageRequest, set()),
        (usage.UsageReportSchema, pb.UsageReport, set()),
        (usage.UsageRowSchema, pb.UsageRow, set()),
        (usage.UsageTotalSchema, pb.UsageTotal, set()),
        (nodes.NodeSchema, pb.Node, set()),
        (nodes.NodeDeviceSchema, pb.NodeDevice, set()),
        (nodes.NodeReplicaSchema, pb.NodeReplica, set()),
        (nodes.NodeChangeSchema, pb.UpdateNodeRequest, {"name", "remove_labels"}),
        (nodes.ForgottenNodeSchema, pb.ForgetNodeResponse, set()),
        (nodes.DrainQuerySchema, pb.DrainNodeRequest, {"name"}),
        (nodes.DrainSchema, pb.DrainNodeResponse, set()),
        (nodes.MovedModelSchema, pb.MovedModel, set()),
        (history.HistorySchema, pb.GetHistoryResponse, set()),
        (history.PointSchema, pb.HistoryPoint, set()),
        (history.EndCountSchema, pb.EndCount, set()),
        (history.ReasonCountSchema, pb.ReasonCount, set()),
        (history.ReplyCountSchema, pb.ReplyCount, set()),
        (history.ProviderCallsSchema, pb.ProviderCalls, set()),
        (backlog.QueueQuerySchema, pb.GetQueueRequest, set()),
        (backlog.QueueListSchema, pb.GetQueueResponse, set()),
        (backlog.ModelQueueSchema, pb.ModelQueue, set()),
        (backlog.WaitingSchema, pb.Waiting, set()),
        (joining.TokenRequestSchema, pb.CreateJoinTokenRequest, set()),
        (joining.TokenSchema, pb.JoinToken, set()),
        (joining.NewTokenSchema, pb.CreateJoinTokenResponse, set()),
    ],
)
def test_messages_have_the_fields_of_rest(schema: type[Schema], message: type, only_in_proto: set[str]) -> None:
    fields = {field.name for field in message.DESCRIPTOR.fields}  # type: ignore[attr-defined]
    asked = set(schema().fields)
    older = set(FormSchema().fields) - fields
    assert fields - only_in_proto == asked - older


def test_every_method_has_a_function() -> None:
    assert {service.name for service, _ in SERVICES} == set(pb.DESCRIPTOR.services_by_name)
    for service, behaviours in SERVICES:
        assert {method.name for method in service.methods} == set(behaviours)


def test_zero_is_not_set_but_for_exact_values() -> None:
    plain = pb.ChatCompletionRequest(model_id="m", temperature=0, max_tokens=0, n=0)
    assert chat_body(plain) == {"messages": [], "n": 0}
    exact = pb.ChatCompletionRequest(temperature=0.5, exact=pb.Exact(temperature=0))
    assert chat_body(exact) == {"messages": [], "temperature": 0.0}


def test_a_request_is_the_body_that_rest_would_have_got() -> None:
    request = pb.ChatCompletionRequest(
        messages=[pb.Message(role="user"), pb.Message(role="assistant", tool_calls=[pb.ToolCall(id="c")])],
        stop=["a", "b"],
        stream_options=pb.StreamOptions(include_usage=False),
        tool_choice_function="f",
    )
    function = request.tools.add(type="function").function
    function.name = "f"
    function.parameters.update({"type": "array", "minItems": 2, "items": {"multipleOf": 0.5}})
    assert chat_body(request) == {
        "messages": [{"role": "user", "content": ""}, {"role": "assistant", "tool_calls": [{"id": "c"}]}],
        "stop": ["a", "b"],
        "stream_options": {"include_usage": False},
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "parameters": {"type": "array", "minItems": 2, "items": {"multipleOf": 0.5}},
                },
            }
        ],
    }
    parameters = to_dict(request)["tools"][0]["function"]["parameters"]
    assert isinstance(parameters["minItems"], int)
    assert completion_body(pb.CompletionRequest(prompts=["a", "b"])) == {"prompt": ["a", "b"]}


def test_what_rest_says_in_other_shapes_has_fields_of_its_own() -> None:
    ids = pb.CompletionRequest(prompt_ids=[pb.TokenIds(ids=[1, 2]), pb.TokenIds(ids=[3])], logit_bias={"7": -1.5})
    assert completion_body(ids) == {"prompt": [[1, 2], [3]], "logit_bias": {"7": -1.5}}
    turn = pb.Message(role="user")
    turn.parts.add().update({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}})
    thinker = pb.Message(role="assistant", content="4", reasoning_content="2 and 2")
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}
    request = pb.ChatCompletionRequest(messages=[turn, thinker], min_p=0.1)
    request.tool_choice_object.update(allowed)
    request.tools.add(type="custom").custom.update({"name": "f"})
    request.messages[1].tool_calls.add(id="c", type="custom").custom.update({"name": "f", "input": "x"})
    assert chat_body(request) == {
        "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]},
            {
                "role": "assistant",
                "content": "4",
                "reasoning_content": "2 and 2",
                "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "f", "input": "x"}}],
            },
        ],
        "tools": [{"type": "custom", "custom": {"name": "f"}}],
        "min_p": 0.1,
        "tool_choice": allowed,
    }
    with pytest.raises(InvalidRequest, match="prompt or prompt_ids, not both"):
        completion_body(pb.CompletionRequest(prompt="a", prompt_ids=[pb.TokenIds(ids=[1])]))


def test_an_echoed_prompt_begins_with_a_token_of_unknown_probability() -> None:
    logprobs = {"tokens": ["a", "b"], "token_logprobs": [None, -1.0], "top_logprobs": [None, {"b": -1.0}]}
    choice = {"index": 0, "text": "ab", "finish_reason": "length", "logprobs": logprobs}
    shown = build_text(pb.CompletionResponse, {"choices": [choice]}).choices[0].logprobs
    assert math.isnan(shown.token_logprobs[0])
    assert (shown.token_logprobs[1], [dict(one) for one in shown.top_logprobs]) == (-1.0, [{}, {"b": -1.0}])


def test_a_call_without_an_id_has_that_of_its_result() -> None:
    called = pb.Message(role="assistant", tool_calls=[pb.ToolCall(function=pb.FunctionCall(name="a"))])
    turns = [pb.Message(role="user", content="hi"), called, pb.Message(role="tool", content="7")]
    loaded = inference.ChatRequestSchema().load(chat_body(pb.ChatCompletionRequest(messages=turns)))
    _, turn, result = loaded.messages
    assert result["tool_call_id"] == turn["tool_calls"][0]["id"]


def test_the_error_of_a_job_says_all_that_rest_says() -> None:
    error = {"reason": "r", "message": "m", "remedy": "do", "log": ["a", "b"], "provider": "p", "retryable": False}
    assert to_dict(build(pb.Job, {"error": error, "usage": None}).error) == error


def test_inputs_are_texts_or_token_ids() -> None:
    assert embedding_body(pb.EmbeddingsRequest(model_id="m", input=["a", ""])) == {"input": ["a", ""]}
    ids = [pb.TokenIds(ids=[0, 7]), pb.TokenIds()]
    assert embedding_body(pb.EmbeddingsRequest(input_ids=ids, truncate=True)) == {
        "input": [[0, 7], []],
        "truncate": True,
    }
    with pytest.raises(InvalidRequest, match="input or input_ids"):
        embedding_body(pb.EmbeddingsRequest(input=["a"], input_ids=ids))


@pytest.mark.parametrize("text", ["short", "a" * 5000, "你好" * 2000, "\n" * 3000])
def test_the_text_of_an_error_fits_into_a_header(text: str) -> None:
    from urllib.parse import quote

    shortened = cut(text, 1000)
    assert len(quote(shortened)) <= 1000
    assert shortened == text or shortened.endswith("...")
    assert len(quote(shortened)) > 600 or shortened == text
