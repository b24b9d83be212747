from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListModelsRequest(_message.Message):
    __slots__ = ("requested",)
    REQUESTED_FIELD_NUMBER: _ClassVar[int]
    requested: str
    def __init__(self, requested: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("id", "name", "description", "version", "capabilities", "provider", "status", "deployment")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    description: str
    version: str
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    provider: str
    status: str
    deployment: ModelDeployment
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., description: _Optional[str] = ..., version: _Optional[str] = ..., capabilities: _Optional[_Iterable[str]] = ..., provider: _Optional[str] = ..., status: _Optional[str] = ..., deployment: _Optional[_Union[ModelDeployment, _Mapping]] = ...) -> None: ...

class ModelDeployment(_message.Message):
    __slots__ = ("type", "hardware", "quantization")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    HARDWARE_FIELD_NUMBER: _ClassVar[int]
    QUANTIZATION_FIELD_NUMBER: _ClassVar[int]
    type: str
    hardware: str
    quantization: str
    def __init__(self, type: _Optional[str] = ..., hardware: _Optional[str] = ..., quantization: _Optional[str] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("model_id",)
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    def __init__(self, model_id: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("id", "name", "description", "version", "capabilities", "provider", "status", "deployment", "parameters", "pricing", "stats", "entry")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    PRICING_FIELD_NUMBER: _ClassVar[int]
    STATS_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    description: str
    version: str
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    provider: str
    status: str
    deployment: ModelDeployment
    parameters: ModelParameters
    pricing: Pricing
    stats: ModelStats
    entry: CatalogEntry
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., description: _Optional[str] = ..., version: _Optional[str] = ..., capabilities: _Optional[_Iterable[str]] = ..., provider: _Optional[str] = ..., status: _Optional[str] = ..., deployment: _Optional[_Union[ModelDeployment, _Mapping]] = ..., parameters: _Optional[_Union[ModelParameters, _Mapping]] = ..., pricing: _Optional[_Union[Pricing, _Mapping]] = ..., stats: _Optional[_Union[ModelStats, _Mapping]] = ..., entry: _Optional[_Union[CatalogEntry, _Mapping]] = ...) -> None: ...

class CatalogEntry(_message.Message):
    __slots__ = ("origin", "source", "engine", "quantization", "tool_format", "reasoning_format", "options", "facts", "requested", "added_at")
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    QUANTIZATION_FIELD_NUMBER: _ClassVar[int]
    TOOL_FORMAT_FIELD_NUMBER: _ClassVar[int]
    REASONING_FORMAT_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_FIELD_NUMBER: _ClassVar[int]
    ADDED_AT_FIELD_NUMBER: _ClassVar[int]
    origin: str
    source: str
    engine: str
    quantization: str
    tool_format: str
    reasoning_format: str
    options: _struct_pb2.Struct
    facts: _struct_pb2.Struct
    requested: str
    added_at: str
    def __init__(self, origin: _Optional[str] = ..., source: _Optional[str] = ..., engine: _Optional[str] = ..., quantization: _Optional[str] = ..., tool_format: _Optional[str] = ..., reasoning_format: _Optional[str] = ..., options: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., facts: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., requested: _Optional[str] = ..., added_at: _Optional[str] = ...) -> None: ...

class AddModelRequest(_message.Message):
    __slots__ = ("source", "id", "node", "pull", "dry_run", "model")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    PULL_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    source: str
    id: str
    node: str
    pull: bool
    dry_run: bool
    model: _struct_pb2.Struct
    def __init__(self, source: _Optional[str] = ..., id: _Optional[str] = ..., node: _Optional[str] = ..., pull: _Optional[bool] = ..., dry_run: _Optional[bool] = ..., model: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class AddModelResponse(_message.Message):
    __slots__ = ("job_id", "status", "model")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    status: str
    model: GetModelResponse
    def __init__(self, job_id: _Optional[str] = ..., status: _Optional[str] = ..., model: _Optional[_Union[GetModelResponse, _Mapping]] = ...) -> None: ...

class ChangeModelRequest(_message.Message):
    __slots__ = ("model_id", "model")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    model: _struct_pb2.Struct
    def __init__(self, model_id: _Optional[str] = ..., model: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class RemoveModelRequest(_message.Message):
    __slots__ = ("model_id", "files")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    files: bool
    def __init__(self, model_id: _Optional[str] = ..., files: _Optional[bool] = ...) -> None: ...

class RemoveModelResponse(_message.Message):
    __slots__ = ("model_id", "unloading", "files")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    UNLOADING_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    unloading: _containers.RepeatedScalarFieldContainer[str]
    files: str
    def __init__(self, model_id: _Optional[str] = ..., unloading: _Optional[_Iterable[str]] = ..., files: _Optional[str] = ...) -> None: ...

class ModelAddition(_message.Message):
    __slots__ = ("name", "model_id", "found", "logs")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    LOGS_FIELD_NUMBER: _ClassVar[int]
    name: str
    model_id: str
    found: FoundModel
    logs: _containers.RepeatedCompositeFieldContainer[DeploymentLog]
    def __init__(self, name: _Optional[str] = ..., model_id: _Optional[str] = ..., found: _Optional[_Union[FoundModel, _Mapping]] = ..., logs: _Optional[_Iterable[_Union[DeploymentLog, _Mapping]]] = ...) -> None: ...

class FoundModel(_message.Message):
    __slots__ = ("source", "id", "entry", "facts", "memory_plan", "alternatives", "warnings")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_PLAN_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    source: str
    id: str
    entry: _struct_pb2.Struct
    facts: _struct_pb2.Struct
    memory_plan: MemoryPlan
    alternatives: _containers.RepeatedCompositeFieldContainer[_struct_pb2.Struct]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, source: _Optional[str] = ..., id: _Optional[str] = ..., entry: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., facts: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., memory_plan: _Optional[_Union[MemoryPlan, _Mapping]] = ..., alternatives: _Optional[_Iterable[_Union[_struct_pb2.Struct, _Mapping]]] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class ModelAdditionEvent(_message.Message):
    __slots__ = ("seq", "claim", "job_id", "name", "event", "timestamp", "stage", "status", "progress", "bytes_done", "bytes_total", "bytes_per_second", "eta_s", "level", "message", "found", "reason")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    BYTES_DONE_FIELD_NUMBER: _ClassVar[int]
    BYTES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    ETA_S_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    seq: int
    claim: str
    job_id: str
    name: str
    event: str
    timestamp: str
    stage: str
    status: str
    progress: int
    bytes_done: int
    bytes_total: int
    bytes_per_second: int
    eta_s: float
    level: str
    message: str
    found: FoundModel
    reason: str
    def __init__(self, seq: _Optional[int] = ..., claim: _Optional[str] = ..., job_id: _Optional[str] = ..., name: _Optional[str] = ..., event: _Optional[str] = ..., timestamp: _Optional[str] = ..., stage: _Optional[str] = ..., status: _Optional[str] = ..., progress: _Optional[int] = ..., bytes_done: _Optional[int] = ..., bytes_total: _Optional[int] = ..., bytes_per_second: _Optional[int] = ..., eta_s: _Optional[float] = ..., level: _Optional[str] = ..., message: _Optional[str] = ..., found: _Optional[_Union[FoundModel, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class ModelParameters(_message.Message):
    __slots__ = ("max_tokens", "context_length", "temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "repetition_penalty")
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_PENALTY_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_PENALTY_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    max_tokens: int
    context_length: int
    temperature: Range
    top_p: Range
    top_k: Range
    presence_penalty: Range
    frequency_penalty: Range
    repetition_penalty: Range
    def __init__(self, max_tokens: _Optional[int] = ..., context_length: _Optional[int] = ..., temperature: _Optional[_Union[Range, _Mapping]] = ..., top_p: _Optional[_Union[Range, _Mapping]] = ..., top_k: _Optional[_Union[Range, _Mapping]] = ..., presence_penalty: _Optional[_Union[Range, _Mapping]] = ..., frequency_penalty: _Optional[_Union[Range, _Mapping]] = ..., repetition_penalty: _Optional[_Union[Range, _Mapping]] = ...) -> None: ...

class Range(_message.Message):
    __slots__ = ("min", "max", "default")
    MIN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_FIELD_NUMBER: _ClassVar[int]
    min: float
    max: float
    default: float
    def __init__(self, min: _Optional[float] = ..., max: _Optional[float] = ..., default: _Optional[float] = ...) -> None: ...

class Pricing(_message.Message):
    __slots__ = ("input_per_1k_tokens", "output_per_1k_tokens", "currency")
    INPUT_PER_1K_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_PER_1K_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    input_per_1k_tokens: float
    output_per_1k_tokens: float
    currency: str
    def __init__(self, input_per_1k_tokens: _Optional[float] = ..., output_per_1k_tokens: _Optional[float] = ..., currency: _Optional[str] = ...) -> None: ...

class ModelStats(_message.Message):
    __slots__ = ("average_latency_ms", "availability", "requests", "window_s")
    AVERAGE_LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    AVAILABILITY_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    WINDOW_S_FIELD_NUMBER: _ClassVar[int]
    average_latency_ms: float
    availability: float
    requests: int
    window_s: int
    def __init__(self, average_latency_ms: _Optional[float] = ..., availability: _Optional[float] = ..., requests: _Optional[int] = ..., window_s: _Optional[int] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("role", "content", "name", "tool_calls", "tool_call_id", "extra", "parts", "reasoning_content", "refusal")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALLS_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALL_ID_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    REASONING_CONTENT_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    role: str
    content: str
    name: str
    tool_calls: _containers.RepeatedCompositeFieldContainer[ToolCall]
    tool_call_id: str
    extra: _struct_pb2.Struct
    parts: _containers.RepeatedCompositeFieldContainer[_struct_pb2.Struct]
    reasoning_content: str
    refusal: str
    def __init__(self, role: _Optional[str] = ..., content: _Optional[str] = ..., name: _Optional[str] = ..., tool_calls: _Optional[_Iterable[_Union[ToolCall, _Mapping]]] = ..., tool_call_id: _Optional[str] = ..., extra: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., parts: _Optional[_Iterable[_Union[_struct_pb2.Struct, _Mapping]]] = ..., reasoning_content: _Optional[str] = ..., refusal: _Optional[str] = ...) -> None: ...

class ToolCall(_message.Message):
    __slots__ = ("id", "type", "function", "index", "extra", "custom")
    ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_FIELD_NUMBER: _ClassVar[int]
    id: str
    type: str
    function: FunctionCall
    index: int
    extra: _struct_pb2.Struct
    custom: _struct_pb2.Struct
    def __init__(self, id: _Optional[str] = ..., type: _Optional[str] = ..., function: _Optional[_Union[FunctionCall, _Mapping]] = ..., index: _Optional[int] = ..., extra: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., custom: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class FunctionCall(_message.Message):
    __slots__ = ("name", "arguments", "extra")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    name: str
    arguments: str
    extra: _struct_pb2.Struct
    def __init__(self, name: _Optional[str] = ..., arguments: _Optional[str] = ..., extra: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class Tool(_message.Message):
    __slots__ = ("type", "function", "custom")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_FIELD_NUMBER: _ClassVar[int]
    type: str
    function: Function
    custom: _struct_pb2.Struct
    def __init__(self, type: _Optional[str] = ..., function: _Optional[_Union[Function, _Mapping]] = ..., custom: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class Function(_message.Message):
    __slots__ = ("name", "description", "parameters", "strict")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    STRICT_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    parameters: _struct_pb2.Struct
    strict: bool
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., parameters: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., strict: _Optional[bool] = ...) -> None: ...

class Exact(_message.Message):
    __slots__ = ("max_tokens", "temperature")
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    max_tokens: int
    temperature: float
    def __init__(self, max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ...) -> None: ...

class StreamOptions(_message.Message):
    __slots__ = ("include_usage",)
    INCLUDE_USAGE_FIELD_NUMBER: _ClassVar[int]
    include_usage: bool
    def __init__(self, include_usage: _Optional[bool] = ...) -> None: ...

class ChatCompletionRequest(_message.Message):
    __slots__ = ("model_id", "messages", "max_tokens", "temperature", "stream", "top_p", "top_k", "n", "seed", "stop", "presence_penalty", "frequency_penalty", "repetition_penalty", "logprobs", "stream_options", "priority", "detach", "user", "store", "max_completion_tokens", "top_logprobs", "tools", "tool_choice", "tool_choice_function", "parallel_tool_calls", "timeout", "response_format", "structured_outputs", "logit_bias", "min_p", "tool_choice_object", "reasoning_effort", "enable_thinking", "thinking", "chat_template_kwargs", "require_exact_resume", "exact")
    class LogitBiasEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_PENALTY_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_PENALTY_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    STREAM_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    DETACH_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    MAX_COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    TOOL_CHOICE_FIELD_NUMBER: _ClassVar[int]
    TOOL_CHOICE_FUNCTION_FIELD_NUMBER: _ClassVar[int]
    PARALLEL_TOOL_CALLS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    STRUCTURED_OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    LOGIT_BIAS_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    TOOL_CHOICE_OBJECT_FIELD_NUMBER: _ClassVar[int]
    REASONING_EFFORT_FIELD_NUMBER: _ClassVar[int]
    ENABLE_THINKING_FIELD_NUMBER: _ClassVar[int]
    THINKING_FIELD_NUMBER: _ClassVar[int]
    CHAT_TEMPLATE_KWARGS_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_EXACT_RESUME_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    messages: _containers.RepeatedCompositeFieldContainer[Message]
    max_tokens: int
    temperature: float
    stream: bool
    top_p: float
    top_k: int
    n: int
    seed: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    logprobs: bool
    stream_options: StreamOptions
    priority: str
    detach: bool
    user: str
    store: bool
    max_completion_tokens: int
    top_logprobs: int
    tools: _containers.RepeatedCompositeFieldContainer[Tool]
    tool_choice: str
    tool_choice_function: str
    parallel_tool_calls: bool
    timeout: float
    response_format: _struct_pb2.Struct
    structured_outputs: _struct_pb2.Struct
    logit_bias: _containers.ScalarMap[str, float]
    min_p: float
    tool_choice_object: _struct_pb2.Struct
    reasoning_effort: str
    enable_thinking: bool
    thinking: _struct_pb2.Struct
    chat_template_kwargs: _struct_pb2.Struct
    require_exact_resume: bool
    exact: Exact
    def __init__(self, model_id: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[Message, _Mapping]]] = ..., max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., stream: _Optional[bool] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., n: _Optional[int] = ..., seed: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., presence_penalty: _Optional[float] = ..., frequency_penalty: _Optional[float] = ..., repetition_penalty: _Optional[float] = ..., logprobs: _Optional[bool] = ..., stream_options: _Optional[_Union[StreamOptions, _Mapping]] = ..., priority: _Optional[str] = ..., detach: _Optional[bool] = ..., user: _Optional[str] = ..., store: _Optional[bool] = ..., max_completion_tokens: _Optional[int] = ..., top_logprobs: _Optional[int] = ..., tools: _Optional[_Iterable[_Union[Tool, _Mapping]]] = ..., tool_choice: _Optional[str] = ..., tool_choice_function: _Optional[str] = ..., parallel_tool_calls: _Optional[bool] = ..., timeout: _Optional[float] = ..., response_format: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., structured_outputs: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., logit_bias: _Optional[_Mapping[str, float]] = ..., min_p: _Optional[float] = ..., tool_choice_object: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., reasoning_effort: _Optional[str] = ..., enable_thinking: _Optional[bool] = ..., thinking: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., chat_template_kwargs: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., require_exact_resume: _Optional[bool] = ..., exact: _Optional[_Union[Exact, _Mapping]] = ...) -> None: ...

class ChatCompletionResponse(_message.Message):
    __slots__ = ("id", "object", "created", "model", "choices", "usage", "served_by")
    ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    id: str
    object: str
    created: int
    model: str
    choices: _containers.RepeatedCompositeFieldContainer[ChatChoice]
    usage: Usage
    served_by: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., object: _Optional[str] = ..., created: _Optional[int] = ..., model: _Optional[str] = ..., choices: _Optional[_Iterable[_Union[ChatChoice, _Mapping]]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., served_by: _Optional[_Iterable[str]] = ...) -> None: ...

class ChatChoice(_message.Message):
    __slots__ = ("message", "finish_reason", "index", "logprobs")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    message: Message
    finish_reason: str
    index: int
    logprobs: ChatLogprobs
    def __init__(self, message: _Optional[_Union[Message, _Mapping]] = ..., finish_reason: _Optional[str] = ..., index: _Optional[int] = ..., logprobs: _Optional[_Union[ChatLogprobs, _Mapping]] = ...) -> None: ...

class ChatCompletionChunk(_message.Message):
    __slots__ = ("id", "object", "created", "model", "choices", "usage", "seq", "claim", "rewound", "snapshot")
    ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    REWOUND_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    id: str
    object: str
    created: int
    model: str
    choices: _containers.RepeatedCompositeFieldContainer[ChatChunkChoice]
    usage: Usage
    seq: int
    claim: str
    rewound: Rewound
    snapshot: Snapshot
    def __init__(self, id: _Optional[str] = ..., object: _Optional[str] = ..., created: _Optional[int] = ..., model: _Optional[str] = ..., choices: _Optional[_Iterable[_Union[ChatChunkChoice, _Mapping]]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., seq: _Optional[int] = ..., claim: _Optional[str] = ..., rewound: _Optional[_Union[Rewound, _Mapping]] = ..., snapshot: _Optional[_Union[Snapshot, _Mapping]] = ...) -> None: ...

class ChatChunkChoice(_message.Message):
    __slots__ = ("delta", "finish_reason", "index", "logprobs")
    DELTA_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    delta: Delta
    finish_reason: str
    index: int
    logprobs: ChatLogprobs
    def __init__(self, delta: _Optional[_Union[Delta, _Mapping]] = ..., finish_reason: _Optional[str] = ..., index: _Optional[int] = ..., logprobs: _Optional[_Union[ChatLogprobs, _Mapping]] = ...) -> None: ...

class Delta(_message.Message):
    __slots__ = ("role", "content", "tool_calls", "extra", "reasoning_content", "refusal")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALLS_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    REASONING_CONTENT_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    role: str
    content: str
    tool_calls: _containers.RepeatedCompositeFieldContainer[ToolCall]
    extra: _struct_pb2.Struct
    reasoning_content: str
    refusal: str
    def __init__(self, role: _Optional[str] = ..., content: _Optional[str] = ..., tool_calls: _Optional[_Iterable[_Union[ToolCall, _Mapping]]] = ..., extra: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., reasoning_content: _Optional[str] = ..., refusal: _Optional[str] = ...) -> None: ...

class CompletionRequest(_message.Message):
    __slots__ = ("model_id", "prompt", "max_tokens", "temperature", "stream", "top_p", "top_k", "n", "seed", "stop", "presence_penalty", "frequency_penalty", "repetition_penalty", "logprobs", "stream_options", "priority", "detach", "user", "store", "echo", "prompts", "timeout", "response_format", "structured_outputs", "logit_bias", "min_p", "prompt_ids", "require_exact_resume", "exact")
    class LogitBiasEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_PENALTY_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_PENALTY_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    STREAM_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    DETACH_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    ECHO_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    STRUCTURED_OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    LOGIT_BIAS_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    PROMPT_IDS_FIELD_NUMBER: _ClassVar[int]
    REQUIRE_EXACT_RESUME_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    prompt: str
    max_tokens: int
    temperature: float
    stream: bool
    top_p: float
    top_k: int
    n: int
    seed: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    logprobs: int
    stream_options: StreamOptions
    priority: str
    detach: bool
    user: str
    store: bool
    echo: bool
    prompts: _containers.RepeatedScalarFieldContainer[str]
    timeout: float
    response_format: _struct_pb2.Struct
    structured_outputs: _struct_pb2.Struct
    logit_bias: _containers.ScalarMap[str, float]
    min_p: float
    prompt_ids: _containers.RepeatedCompositeFieldContainer[TokenIds]
    require_exact_resume: bool
    exact: Exact
    def __init__(self, model_id: _Optional[str] = ..., prompt: _Optional[str] = ..., max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., stream: _Optional[bool] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., n: _Optional[int] = ..., seed: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., presence_penalty: _Optional[float] = ..., frequency_penalty: _Optional[float] = ..., repetition_penalty: _Optional[float] = ..., logprobs: _Optional[int] = ..., stream_options: _Optional[_Union[StreamOptions, _Mapping]] = ..., priority: _Optional[str] = ..., detach: _Optional[bool] = ..., user: _Optional[str] = ..., store: _Optional[bool] = ..., echo: _Optional[bool] = ..., prompts: _Optional[_Iterable[str]] = ..., timeout: _Optional[float] = ..., response_format: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., structured_outputs: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., logit_bias: _Optional[_Mapping[str, float]] = ..., min_p: _Optional[float] = ..., prompt_ids: _Optional[_Iterable[_Union[TokenIds, _Mapping]]] = ..., require_exact_resume: _Optional[bool] = ..., exact: _Optional[_Union[Exact, _Mapping]] = ...) -> None: ...

class CompletionResponse(_message.Message):
    __slots__ = ("id", "object", "created", "model", "choices", "usage", "served_by")
    ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    SERVED_BY_FIELD_NUMBER: _ClassVar[int]
    id: str
    object: str
    created: int
    model: str
    choices: _containers.RepeatedCompositeFieldContainer[CompletionChoice]
    usage: Usage
    served_by: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., object: _Optional[str] = ..., created: _Optional[int] = ..., model: _Optional[str] = ..., choices: _Optional[_Iterable[_Union[CompletionChoice, _Mapping]]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., served_by: _Optional[_Iterable[str]] = ...) -> None: ...

class CompletionChoice(_message.Message):
    __slots__ = ("text", "index", "finish_reason", "logprobs")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    text: str
    index: int
    finish_reason: str
    logprobs: CompletionLogprobs
    def __init__(self, text: _Optional[str] = ..., index: _Optional[int] = ..., finish_reason: _Optional[str] = ..., logprobs: _Optional[_Union[CompletionLogprobs, _Mapping]] = ...) -> None: ...

class CompletionChunk(_message.Message):
    __slots__ = ("id", "object", "created", "model", "choices", "usage", "seq", "claim", "rewound", "snapshot")
    ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    REWOUND_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    id: str
    object: str
    created: int
    model: str
    choices: _containers.RepeatedCompositeFieldContainer[CompletionChoice]
    usage: Usage
    seq: int
    claim: str
    rewound: Rewound
    snapshot: Snapshot
    def __init__(self, id: _Optional[str] = ..., object: _Optional[str] = ..., created: _Optional[int] = ..., model: _Optional[str] = ..., choices: _Optional[_Iterable[_Union[CompletionChoice, _Mapping]]] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., seq: _Optional[int] = ..., claim: _Optional[str] = ..., rewound: _Optional[_Union[Rewound, _Mapping]] = ..., snapshot: _Optional[_Union[Snapshot, _Mapping]] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details")
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_DETAILS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_DETAILS_FIELD_NUMBER: _ClassVar[int]
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails
    def __init__(self, prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., total_tokens: _Optional[int] = ..., prompt_tokens_details: _Optional[_Union[PromptTokensDetails, _Mapping]] = ..., completion_tokens_details: _Optional[_Union[CompletionTokensDetails, _Mapping]] = ...) -> None: ...

class PromptTokensDetails(_message.Message):
    __slots__ = ("cached_tokens",)
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    cached_tokens: int
    def __init__(self, cached_tokens: _Optional[int] = ...) -> None: ...

class CompletionTokensDetails(_message.Message):
    __slots__ = ("reasoning_tokens",)
    REASONING_TOKENS_FIELD_NUMBER: _ClassVar[int]
    reasoning_tokens: int
    def __init__(self, reasoning_tokens: _Optional[int] = ...) -> None: ...

class ChatLogprobs(_message.Message):
    __slots__ = ("content",)
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    content: _containers.RepeatedCompositeFieldContainer[TokenLogprob]
    def __init__(self, content: _Optional[_Iterable[_Union[TokenLogprob, _Mapping]]] = ...) -> None: ...

class TokenLogprob(_message.Message):
    __slots__ = ("token", "logprob", "bytes", "top_logprobs")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    token: str
    logprob: float
    bytes: _containers.RepeatedScalarFieldContainer[int]
    top_logprobs: _containers.RepeatedCompositeFieldContainer[TokenLogprob]
    def __init__(self, token: _Optional[str] = ..., logprob: _Optional[float] = ..., bytes: _Optional[_Iterable[int]] = ..., top_logprobs: _Optional[_Iterable[_Union[TokenLogprob, _Mapping]]] = ...) -> None: ...

class CompletionLogprobs(_message.Message):
    __slots__ = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    TEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedScalarFieldContainer[str]
    token_logprobs: _containers.RepeatedScalarFieldContainer[float]
    top_logprobs: _containers.RepeatedCompositeFieldContainer[_struct_pb2.Struct]
    text_offset: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, tokens: _Optional[_Iterable[str]] = ..., token_logprobs: _Optional[_Iterable[float]] = ..., top_logprobs: _Optional[_Iterable[_Union[_struct_pb2.Struct, _Mapping]]] = ..., text_offset: _Optional[_Iterable[int]] = ...) -> None: ...

class Rewound(_message.Message):
    __slots__ = ("seq", "text")
    class TextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SEQ_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    seq: int
    text: _containers.ScalarMap[str, str]
    def __init__(self, seq: _Optional[int] = ..., text: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Snapshot(_message.Message):
    __slots__ = ("seq", "text")
    class TextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SEQ_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    seq: int
    text: _containers.ScalarMap[str, str]
    def __init__(self, seq: _Optional[int] = ..., text: _Optional[_Mapping[str, str]] = ...) -> None: ...

class EmbeddingsRequest(_message.Message):
    __slots__ = ("model_id", "input", "encoding_format", "dimensions", "user", "input_ids", "truncate", "priority", "detach", "store", "timeout")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FORMAT_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    INPUT_IDS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    DETACH_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    input: _containers.RepeatedScalarFieldContainer[str]
    encoding_format: str
    dimensions: int
    user: str
    input_ids: _containers.RepeatedCompositeFieldContainer[TokenIds]
    truncate: bool
    priority: str
    detach: bool
    store: bool
    timeout: float
    def __init__(self, model_id: _Optional[str] = ..., input: _Optional[_Iterable[str]] = ..., encoding_format: _Optional[str] = ..., dimensions: _Optional[int] = ..., user: _Optional[str] = ..., input_ids: _Optional[_Iterable[_Union[TokenIds, _Mapping]]] = ..., truncate: _Optional[bool] = ..., priority: _Optional[str] = ..., detach: _Optional[bool] = ..., store: _Optional[bool] = ..., timeout: _Optional[float] = ...) -> None: ...

class TokenIds(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...

class EmbeddingsResponse(_message.Message):
    __slots__ = ("object", "data", "model", "usage")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    object: str
    data: _containers.RepeatedCompositeFieldContainer[Embedding]
    model: str
    usage: EmbeddingsUsage
    def __init__(self, object: _Optional[str] = ..., data: _Optional[_Iterable[_Union[Embedding, _Mapping]]] = ..., model: _Optional[str] = ..., usage: _Optional[_Union[EmbeddingsUsage, _Mapping]] = ...) -> None: ...

class Embedding(_message.Message):
    __slots__ = ("object", "embedding", "index")
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    object: str
    embedding: _containers.RepeatedScalarFieldContainer[float]
    index: int
    def __init__(self, object: _Optional[str] = ..., embedding: _Optional[_Iterable[float]] = ..., index: _Optional[int] = ...) -> None: ...

class EmbeddingsUsage(_message.Message):
    __slots__ = ("prompt_tokens", "total_tokens")
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    prompt_tokens: int
    total_tokens: int
    def __init__(self, prompt_tokens: _Optional[int] = ..., total_tokens: _Optional[int] = ...) -> None: ...

class EmbeddingsProgress(_message.Message):
    __slots__ = ("id", "object", "created", "model", "done", "usage", "seq", "claim", "rewound")
    ID_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    REWOUND_FIELD_NUMBER: _ClassVar[int]
    id: str
    object: str
    created: int
    model: str
    done: _containers.RepeatedScalarFieldContainer[int]
    usage: EmbeddingsUsage
    seq: int
    claim: str
    rewound: Rewound
    def __init__(self, id: _Optional[str] = ..., object: _Optional[str] = ..., created: _Optional[int] = ..., model: _Optional[str] = ..., done: _Optional[_Iterable[int]] = ..., usage: _Optional[_Union[EmbeddingsUsage, _Mapping]] = ..., seq: _Optional[int] = ..., claim: _Optional[str] = ..., rewound: _Optional[_Union[Rewound, _Mapping]] = ...) -> None: ...

class ListLocalModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListLocalModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[LocalModel]
    def __init__(self, models: _Optional[_Iterable[_Union[LocalModel, _Mapping]]] = ...) -> None: ...

class LocalModel(_message.Message):
    __slots__ = ("id", "name", "version", "status", "deployment", "performance", "replicas")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    PERFORMANCE_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    version: str
    status: str
    deployment: LocalDeployment
    performance: Performance
    replicas: _containers.RepeatedCompositeFieldContainer[LocalDeployment]
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[str] = ..., status: _Optional[str] = ..., deployment: _Optional[_Union[LocalDeployment, _Mapping]] = ..., performance: _Optional[_Union[Performance, _Mapping]] = ..., replicas: _Optional[_Iterable[_Union[LocalDeployment, _Mapping]]] = ...) -> None: ...

class LocalDeployment(_message.Message):
    __slots__ = ("node_id", "hardware", "memory_usage", "quantization", "loaded_at", "health", "replica_id", "device", "status", "deployment_id", "engine", "memory_bytes", "planned_bytes", "sequences", "engine_steps", "tokens_per_second", "effective_config", "kv_used_tokens", "deployment_config")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    HARDWARE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_USAGE_FIELD_NUMBER: _ClassVar[int]
    QUANTIZATION_FIELD_NUMBER: _ClassVar[int]
    LOADED_AT_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    PLANNED_BYTES_FIELD_NUMBER: _ClassVar[int]
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    ENGINE_STEPS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_CONFIG_FIELD_NUMBER: _ClassVar[int]
    KV_USED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_CONFIG_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    hardware: str
    memory_usage: str
    quantization: str
    loaded_at: str
    health: str
    replica_id: str
    device: str
    status: str
    deployment_id: str
    engine: str
    memory_bytes: int
    planned_bytes: int
    sequences: int
    engine_steps: int
    tokens_per_second: float
    effective_config: _struct_pb2.Struct
    kv_used_tokens: int
    deployment_config: DeploymentConfig
    def __init__(self, node_id: _Optional[str] = ..., hardware: _Optional[str] = ..., memory_usage: _Optional[str] = ..., quantization: _Optional[str] = ..., loaded_at: _Optional[str] = ..., health: _Optional[str] = ..., replica_id: _Optional[str] = ..., device: _Optional[str] = ..., status: _Optional[str] = ..., deployment_id: _Optional[str] = ..., engine: _Optional[str] = ..., memory_bytes: _Optional[int] = ..., planned_bytes: _Optional[int] = ..., sequences: _Optional[int] = ..., engine_steps: _Optional[int] = ..., tokens_per_second: _Optional[float] = ..., effective_config: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., kv_used_tokens: _Optional[int] = ..., deployment_config: _Optional[_Union[DeploymentConfig, _Mapping]] = ...) -> None: ...

class Performance(_message.Message):
    __slots__ = ("tokens_per_second", "avg_latency_ms", "max_batch_size")
    TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    AVG_LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    tokens_per_second: float
    avg_latency_ms: float
    max_batch_size: int
    def __init__(self, tokens_per_second: _Optional[float] = ..., avg_latency_ms: _Optional[float] = ..., max_batch_size: _Optional[int] = ...) -> None: ...

class DeployLocalModelRequest(_message.Message):
    __slots__ = ("model_type", "model_size", "quantization", "target_nodes", "deployment_config", "replicas", "dry_run")
    MODEL_TYPE_FIELD_NUMBER: _ClassVar[int]
    MODEL_SIZE_FIELD_NUMBER: _ClassVar[int]
    QUANTIZATION_FIELD_NUMBER: _ClassVar[int]
    TARGET_NODES_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_CONFIG_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    model_type: str
    model_size: str
    quantization: str
    target_nodes: _containers.RepeatedScalarFieldContainer[str]
    deployment_config: DeploymentConfig
    replicas: int
    dry_run: bool
    def __init__(self, model_type: _Optional[str] = ..., model_size: _Optional[str] = ..., quantization: _Optional[str] = ..., target_nodes: _Optional[_Iterable[str]] = ..., deployment_config: _Optional[_Union[DeploymentConfig, _Mapping]] = ..., replicas: _Optional[int] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class DeploymentConfig(_message.Message):
    __slots__ = ("max_batch_size", "use_flash_attention", "use_kv_cache", "tensor_parallel_size", "cpu_offload", "context_length", "idle_unload_s")
    MAX_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    USE_FLASH_ATTENTION_FIELD_NUMBER: _ClassVar[int]
    USE_KV_CACHE_FIELD_NUMBER: _ClassVar[int]
    TENSOR_PARALLEL_SIZE_FIELD_NUMBER: _ClassVar[int]
    CPU_OFFLOAD_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    IDLE_UNLOAD_S_FIELD_NUMBER: _ClassVar[int]
    max_batch_size: int
    use_flash_attention: bool
    use_kv_cache: bool
    tensor_parallel_size: int
    cpu_offload: bool
    context_length: int
    idle_unload_s: float
    def __init__(self, max_batch_size: _Optional[int] = ..., use_flash_attention: _Optional[bool] = ..., use_kv_cache: _Optional[bool] = ..., tensor_parallel_size: _Optional[int] = ..., cpu_offload: _Optional[bool] = ..., context_length: _Optional[int] = ..., idle_unload_s: _Optional[float] = ...) -> None: ...

class DeployLocalModelResponse(_message.Message):
    __slots__ = ("deployment_id", "status", "model_id", "estimated_time", "progress_url", "created_at", "memory_plan", "effective_config", "warnings", "fits", "alternatives")
    class MemoryPlanEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: MemoryPlan
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[MemoryPlan, _Mapping]] = ...) -> None: ...
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_TIME_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_URL_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_PLAN_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_CONFIG_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    FITS_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    deployment_id: str
    status: str
    model_id: str
    estimated_time: str
    progress_url: str
    created_at: str
    memory_plan: _containers.MessageMap[str, MemoryPlan]
    effective_config: EffectiveConfig
    warnings: _containers.RepeatedScalarFieldContainer[str]
    fits: bool
    alternatives: _containers.RepeatedCompositeFieldContainer[Alternative]
    def __init__(self, deployment_id: _Optional[str] = ..., status: _Optional[str] = ..., model_id: _Optional[str] = ..., estimated_time: _Optional[str] = ..., progress_url: _Optional[str] = ..., created_at: _Optional[str] = ..., memory_plan: _Optional[_Mapping[str, MemoryPlan]] = ..., effective_config: _Optional[_Union[EffectiveConfig, _Mapping]] = ..., warnings: _Optional[_Iterable[str]] = ..., fits: _Optional[bool] = ..., alternatives: _Optional[_Iterable[_Union[Alternative, _Mapping]]] = ...) -> None: ...

class MemoryPlan(_message.Message):
    __slots__ = ("weights_bytes", "kv_cache_bytes", "workspace_bytes", "free_bytes", "kv_cache_full_bytes", "total_bytes", "fits", "loading_bytes")
    WEIGHTS_BYTES_FIELD_NUMBER: _ClassVar[int]
    KV_CACHE_BYTES_FIELD_NUMBER: _ClassVar[int]
    WORKSPACE_BYTES_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    KV_CACHE_FULL_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    FITS_FIELD_NUMBER: _ClassVar[int]
    LOADING_BYTES_FIELD_NUMBER: _ClassVar[int]
    weights_bytes: int
    kv_cache_bytes: int
    workspace_bytes: int
    free_bytes: int
    kv_cache_full_bytes: int
    total_bytes: int
    fits: bool
    loading_bytes: int
    def __init__(self, weights_bytes: _Optional[int] = ..., kv_cache_bytes: _Optional[int] = ..., workspace_bytes: _Optional[int] = ..., free_bytes: _Optional[int] = ..., kv_cache_full_bytes: _Optional[int] = ..., total_bytes: _Optional[int] = ..., fits: _Optional[bool] = ..., loading_bytes: _Optional[int] = ...) -> None: ...

class EffectiveConfig(_message.Message):
    __slots__ = ("quantization", "max_batch_size", "context_length", "use_flash_attention", "use_kv_cache", "tensor_parallel_size", "cpu_offload")
    QUANTIZATION_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    USE_FLASH_ATTENTION_FIELD_NUMBER: _ClassVar[int]
    USE_KV_CACHE_FIELD_NUMBER: _ClassVar[int]
    TENSOR_PARALLEL_SIZE_FIELD_NUMBER: _ClassVar[int]
    CPU_OFFLOAD_FIELD_NUMBER: _ClassVar[int]
    quantization: str
    max_batch_size: int
    context_length: int
    use_flash_attention: bool
    use_kv_cache: bool
    tensor_parallel_size: int
    cpu_offload: bool
    def __init__(self, quantization: _Optional[str] = ..., max_batch_size: _Optional[int] = ..., context_length: _Optional[int] = ..., use_flash_attention: _Optional[bool] = ..., use_kv_cache: _Optional[bool] = ..., tensor_parallel_size: _Optional[int] = ..., cpu_offload: _Optional[bool] = ...) -> None: ...

class Alternative(_message.Message):
    __slots__ = ("change", "total_bytes")
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    change: _struct_pb2.Struct
    total_bytes: int
    def __init__(self, change: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., total_bytes: _Optional[int] = ...) -> None: ...

class ScaleLocalModelRequest(_message.Message):
    __slots__ = ("model_id", "replicas")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    replicas: int
    def __init__(self, model_id: _Optional[str] = ..., replicas: _Optional[int] = ...) -> None: ...

class GetDeploymentStatusRequest(_message.Message):
    __slots__ = ("deployment_id",)
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    deployment_id: str
    def __init__(self, deployment_id: _Optional[str] = ...) -> None: ...

class GetDeploymentStatusResponse(_message.Message):
    __slots__ = ("deployment_id", "model_id", "status", "progress", "current_stage", "stages", "logs", "estimated_completion", "created_at", "started_at", "finished_at", "error", "replicas", "memory_plan", "effective_config", "warnings", "progress_url", "events_url", "on_demand", "asked_by")
    class MemoryPlanEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: MemoryPlan
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[MemoryPlan, _Mapping]] = ...) -> None: ...
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CURRENT_STAGE_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    LOGS_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_COMPLETION_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_PLAN_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_CONFIG_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_URL_FIELD_NUMBER: _ClassVar[int]
    EVENTS_URL_FIELD_NUMBER: _ClassVar[int]
    ON_DEMAND_FIELD_NUMBER: _ClassVar[int]
    ASKED_BY_FIELD_NUMBER: _ClassVar[int]
    deployment_id: str
    model_id: str
    status: str
    progress: int
    current_stage: str
    stages: _containers.RepeatedCompositeFieldContainer[DeploymentStage]
    logs: _containers.RepeatedCompositeFieldContainer[DeploymentLog]
    estimated_completion: str
    created_at: str
    started_at: str
    finished_at: str
    error: DeploymentError
    replicas: _containers.RepeatedCompositeFieldContainer[DeploymentReplica]
    memory_plan: _containers.MessageMap[str, MemoryPlan]
    effective_config: EffectiveConfig
    warnings: _containers.RepeatedScalarFieldContainer[str]
    progress_url: str
    events_url: str
    on_demand: bool
    asked_by: str
    def __init__(self, deployment_id: _Optional[str] = ..., model_id: _Optional[str] = ..., status: _Optional[str] = ..., progress: _Optional[int] = ..., current_stage: _Optional[str] = ..., stages: _Optional[_Iterable[_Union[DeploymentStage, _Mapping]]] = ..., logs: _Optional[_Iterable[_Union[DeploymentLog, _Mapping]]] = ..., estimated_completion: _Optional[str] = ..., created_at: _Optional[str] = ..., started_at: _Optional[str] = ..., finished_at: _Optional[str] = ..., error: _Optional[_Union[DeploymentError, _Mapping]] = ..., replicas: _Optional[_Iterable[_Union[DeploymentReplica, _Mapping]]] = ..., memory_plan: _Optional[_Mapping[str, MemoryPlan]] = ..., effective_config: _Optional[_Union[EffectiveConfig, _Mapping]] = ..., warnings: _Optional[_Iterable[str]] = ..., progress_url: _Optional[str] = ..., events_url: _Optional[str] = ..., on_demand: _Optional[bool] = ..., asked_by: _Optional[str] = ...) -> None: ...

class DeploymentStage(_message.Message):
    __slots__ = ("name", "status", "duration", "progress", "units_done", "units_total")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    UNITS_DONE_FIELD_NUMBER: _ClassVar[int]
    UNITS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    name: str
    status: str
    duration: str
    progress: int
    units_done: int
    units_total: int
    def __init__(self, name: _Optional[str] = ..., status: _Optional[str] = ..., duration: _Optional[str] = ..., progress: _Optional[int] = ..., units_done: _Optional[int] = ..., units_total: _Optional[int] = ...) -> None: ...

class DeploymentLog(_message.Message):
    __slots__ = ("timestamp", "level", "message")
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    timestamp: str
    level: str
    message: str
    def __init__(self, timestamp: _Optional[str] = ..., level: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class DeploymentError(_message.Message):
    __slots__ = ("reason", "message", "remedy", "log")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    remedy: str
    log: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ..., remedy: _Optional[str] = ..., log: _Optional[_Iterable[str]] = ...) -> None: ...

class DeploymentReplica(_message.Message):
    __slots__ = ("replica_id", "node_id", "device", "status", "planned_bytes", "measured_bytes")
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PLANNED_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEASURED_BYTES_FIELD_NUMBER: _ClassVar[int]
    replica_id: str
    node_id: str
    device: str
    status: str
    planned_bytes: int
    measured_bytes: int
    def __init__(self, replica_id: _Optional[str] = ..., node_id: _Optional[str] = ..., device: _Optional[str] = ..., status: _Optional[str] = ..., planned_bytes: _Optional[int] = ..., measured_bytes: _Optional[int] = ...) -> None: ...

class UnloadLocalModelRequest(_message.Message):
    __slots__ = ("model_id",)
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    def __init__(self, model_id: _Optional[str] = ...) -> None: ...

class UnloadLocalModelResponse(_message.Message):
    __slots__ = ("model_id", "status", "nodes")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    status: str
    nodes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model_id: _Optional[str] = ..., status: _Optional[str] = ..., nodes: _Optional[_Iterable[str]] = ...) -> None: ...

class WatchDeploymentRequest(_message.Message):
    __slots__ = ("deployment_id", "from_seq", "from_claim")
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_SEQ_FIELD_NUMBER: _ClassVar[int]
    FROM_CLAIM_FIELD_NUMBER: _ClassVar[int]
    deployment_id: str
    from_seq: int
    from_claim: str
    def __init__(self, deployment_id: _Optional[str] = ..., from_seq: _Optional[int] = ..., from_claim: _Optional[str] = ...) -> None: ...

class DeploymentEvent(_message.Message):
    __slots__ = ("seq", "claim", "deployment_id", "model_id", "event", "timestamp", "replica", "stage", "status", "progress", "level", "message", "facts", "reason", "units_done", "units_total")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    UNITS_DONE_FIELD_NUMBER: _ClassVar[int]
    UNITS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    seq: int
    claim: str
    deployment_id: str
    model_id: str
    event: str
    timestamp: str
    replica: str
    stage: str
    status: str
    progress: int
    level: str
    message: str
    facts: _struct_pb2.Struct
    reason: str
    units_done: int
    units_total: int
    def __init__(self, seq: _Optional[int] = ..., claim: _Optional[str] = ..., deployment_id: _Optional[str] = ..., model_id: _Optional[str] = ..., event: _Optional[str] = ..., timestamp: _Optional[str] = ..., replica: _Optional[str] = ..., stage: _Optional[str] = ..., status: _Optional[str] = ..., progress: _Optional[int] = ..., level: _Optional[str] = ..., message: _Optional[str] = ..., facts: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., reason: _Optional[str] = ..., units_done: _Optional[int] = ..., units_total: _Optional[int] = ...) -> None: ...

class ListDeploymentsRequest(_message.Message):
    __slots__ = ("status", "limit", "model_id")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    status: str
    limit: int
    model_id: str
    def __init__(self, status: _Optional[str] = ..., limit: _Optional[int] = ..., model_id: _Optional[str] = ...) -> None: ...

class ListDeploymentsResponse(_message.Message):
    __slots__ = ("deployments",)
    DEPLOYMENTS_FIELD_NUMBER: _ClassVar[int]
    deployments: _containers.RepeatedCompositeFieldContainer[DeploymentSummary]
    def __init__(self, deployments: _Optional[_Iterable[_Union[DeploymentSummary, _Mapping]]] = ...) -> None: ...

class DeploymentSummary(_message.Message):
    __slots__ = ("deployment_id", "model_id", "status", "created_at", "started_at", "finished_at", "error", "progress_url", "progress", "current_stage")
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_URL_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CURRENT_STAGE_FIELD_NUMBER: _ClassVar[int]
    deployment_id: str
    model_id: str
    status: str
    created_at: str
    started_at: str
    finished_at: str
    error: DeploymentError
    progress_url: str
    progress: int
    current_stage: str
    def __init__(self, deployment_id: _Optional[str] = ..., model_id: _Optional[str] = ..., status: _Optional[str] = ..., created_at: _Optional[str] = ..., started_at: _Optional[str] = ..., finished_at: _Optional[str] = ..., error: _Optional[_Union[DeploymentError, _Mapping]] = ..., progress_url: _Optional[str] = ..., progress: _Optional[int] = ..., current_stage: _Optional[str] = ...) -> None: ...

class CancelDeploymentRequest(_message.Message):
    __slots__ = ("deployment_id",)
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    deployment_id: str
    def __init__(self, deployment_id: _Optional[str] = ...) -> None: ...

class CancelDeploymentResponse(_message.Message):
    __slots__ = ("deployment_id", "model_id", "status")
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    deployment_id: str
    model_id: str
    status: str
    def __init__(self, deployment_id: _Optional[str] = ..., model_id: _Optional[str] = ..., status: _Optional[str] = ...) -> None: ...

class ListNodesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListNodesResponse(_message.Message):
    __slots__ = ("nodes",)
    NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[Node]
    def __init__(self, nodes: _Optional[_Iterable[_Union[Node, _Mapping]]] = ...) -> None: ...

class GetNodeRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("name", "state", "version", "address", "labels", "first_seen", "last_seen", "devices", "replicas")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEEN_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    name: str
    state: str
    version: str
    address: str
    labels: _containers.ScalarMap[str, str]
    first_seen: str
    last_seen: str
    devices: _containers.RepeatedCompositeFieldContainer[NodeDevice]
    replicas: _containers.RepeatedCompositeFieldContainer[NodeReplica]
    def __init__(self, name: _Optional[str] = ..., state: _Optional[str] = ..., version: _Optional[str] = ..., address: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., first_seen: _Optional[str] = ..., last_seen: _Optional[str] = ..., devices: _Optional[_Iterable[_Union[NodeDevice, _Mapping]]] = ..., replicas: _Optional[_Iterable[_Union[NodeReplica, _Mapping]]] = ...) -> None: ...

class NodeDevice(_message.Message):
    __slots__ = ("device", "alive", "hardware", "memory_bytes", "memory_free_bytes", "engines", "state")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    ALIVE_FIELD_NUMBER: _ClassVar[int]
    HARDWARE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    ENGINES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    device: str
    alive: bool
    hardware: str
    memory_bytes: int
    memory_free_bytes: int
    engines: _containers.RepeatedScalarFieldContainer[str]
    state: str
    def __init__(self, device: _Optional[str] = ..., alive: _Optional[bool] = ..., hardware: _Optional[str] = ..., memory_bytes: _Optional[int] = ..., memory_free_bytes: _Optional[int] = ..., engines: _Optional[_Iterable[str]] = ..., state: _Optional[str] = ...) -> None: ...

class NodeReplica(_message.Message):
    __slots__ = ("replica_id", "model_id", "device", "status", "sequences")
    REPLICA_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    replica_id: str
    model_id: str
    device: str
    status: str
    sequences: int
    def __init__(self, replica_id: _Optional[str] = ..., model_id: _Optional[str] = ..., device: _Optional[str] = ..., status: _Optional[str] = ..., sequences: _Optional[int] = ...) -> None: ...

class UpdateNodeRequest(_message.Message):
    __slots__ = ("name", "labels", "remove_labels")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    REMOVE_LABELS_FIELD_NUMBER: _ClassVar[int]
    name: str
    labels: _containers.ScalarMap[str, str]
    remove_labels: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., remove_labels: _Optional[_Iterable[str]] = ...) -> None: ...

class ForgetNodeRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ForgetNodeResponse(_message.Message):
    __slots__ = ("name", "dropped_replicas")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DROPPED_REPLICAS_FIELD_NUMBER: _ClassVar[int]
    name: str
    dropped_replicas: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., dropped_replicas: _Optional[_Iterable[str]] = ...) -> None: ...

class DrainNodeRequest(_message.Message):
    __slots__ = ("name", "force", "device")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    name: str
    force: bool
    device: str
    def __init__(self, name: _Optional[str] = ..., force: _Optional[bool] = ..., device: _Optional[str] = ...) -> None: ...

class DrainNodeResponse(_message.Message):
    __slots__ = ("node", "models")
    NODE_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    node: Node
    models: _containers.RepeatedCompositeFieldContainer[MovedModel]
    def __init__(self, node: _Optional[_Union[Node, _Mapping]] = ..., models: _Optional[_Iterable[_Union[MovedModel, _Mapping]]] = ...) -> None: ...

class MovedModel(_message.Message):
    __slots__ = ("model_id", "outcome", "deployment_id", "reason")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    outcome: str
    deployment_id: str
    reason: str
    def __init__(self, model_id: _Optional[str] = ..., outcome: _Optional[str] = ..., deployment_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class CordonNodeRequest(_message.Message):
    __slots__ = ("name", "device")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    name: str
    device: str
    def __init__(self, name: _Optional[str] = ..., device: _Optional[str] = ...) -> None: ...

class UncordonNodeRequest(_message.Message):
    __slots__ = ("name", "device")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    name: str
    device: str
    def __init__(self, name: _Optional[str] = ..., device: _Optional[str] = ...) -> None: ...

class ListJoinTokensRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListJoinTokensResponse(_message.Message):
    __slots__ = ("tokens",)
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedCompositeFieldContainer[JoinToken]
    def __init__(self, tokens: _Optional[_Iterable[_Union[JoinToken, _Mapping]]] = ...) -> None: ...

class JoinToken(_message.Message):
    __slots__ = ("id", "status", "created_at", "expires_at", "uses", "nodes")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    id: str
    status: str
    created_at: str
    expires_at: str
    uses: int
    nodes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[str] = ..., status: _Optional[str] = ..., created_at: _Optional[str] = ..., expires_at: _Optional[str] = ..., uses: _Optional[int] = ..., nodes: _Optional[_Iterable[str]] = ...) -> None: ...

class CreateJoinTokenRequest(_message.Message):
    __slots__ = ("ttl_s", "uses")
    TTL_S_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    ttl_s: int
    uses: int
    def __init__(self, ttl_s: _Optional[int] = ..., uses: _Optional[int] = ...) -> None: ...

class CreateJoinTokenResponse(_message.Message):
    __slots__ = ("id", "status", "created_at", "expires_at", "uses", "nodes", "token", "url")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    URL_FIELD_NUMBER: _ClassVar[int]
    id: str
    status: str
    created_at: str
    expires_at: str
    uses: int
    nodes: _containers.RepeatedScalarFieldContainer[str]
    token: str
    url: str
    def __init__(self, id: _Optional[str] = ..., status: _Optional[str] = ..., created_at: _Optional[str] = ..., expires_at: _Optional[str] = ..., uses: _Optional[int] = ..., nodes: _Optional[_Iterable[str]] = ..., token: _Optional[str] = ..., url: _Optional[str] = ...) -> None: ...

class RevokeJoinTokenRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class CreateJobRequest(_message.Message):
    __slots__ = ("chat", "completion", "embedding")
    CHAT_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    chat: ChatCompletionRequest
    completion: CompletionRequest
    embedding: EmbeddingsRequest
    def __init__(self, chat: _Optional[_Union[ChatCompletionRequest, _Mapping]] = ..., completion: _Optional[_Union[CompletionRequest, _Mapping]] = ..., embedding: _Optional[_Union[EmbeddingsRequest, _Mapping]] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("job_id", "kind", "model", "status", "priority", "position", "attempts", "created_at", "started_at", "finished_at", "usage", "error", "events_url", "chat", "completion", "embedding", "deployment", "addition", "eta_s", "loading", "key_id")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    FINISHED_AT_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    EVENTS_URL_FIELD_NUMBER: _ClassVar[int]
    CHAT_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    ADDITION_FIELD_NUMBER: _ClassVar[int]
    ETA_S_FIELD_NUMBER: _ClassVar[int]
    LOADING_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    kind: str
    model: str
    status: str
    priority: str
    position: int
    attempts: int
    created_at: str
    started_at: str
    finished_at: str
    usage: Usage
    error: JobError
    events_url: str
    chat: ChatCompletionResponse
    completion: CompletionResponse
    embedding: EmbeddingsResponse
    deployment: GetDeploymentStatusResponse
    addition: ModelAddition
    eta_s: float
    loading: ModelLoading
    key_id: str
    def __init__(self, job_id: _Optional[str] = ..., kind: _Optional[str] = ..., model: _Optional[str] = ..., status: _Optional[str] = ..., priority: _Optional[str] = ..., position: _Optional[int] = ..., attempts: _Optional[int] = ..., created_at: _Optional[str] = ..., started_at: _Optional[str] = ..., finished_at: _Optional[str] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., error: _Optional[_Union[JobError, _Mapping]] = ..., events_url: _Optional[str] = ..., chat: _Optional[_Union[ChatCompletionResponse, _Mapping]] = ..., completion: _Optional[_Union[CompletionResponse, _Mapping]] = ..., embedding: _Optional[_Union[EmbeddingsResponse, _Mapping]] = ..., deployment: _Optional[_Union[GetDeploymentStatusResponse, _Mapping]] = ..., addition: _Optional[_Union[ModelAddition, _Mapping]] = ..., eta_s: _Optional[float] = ..., loading: _Optional[_Union[ModelLoading, _Mapping]] = ..., key_id: _Optional[str] = ...) -> None: ...

class ModelLoading(_message.Message):
    __slots__ = ("progress", "stage")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    progress: int
    stage: str
    def __init__(self, progress: _Optional[int] = ..., stage: _Optional[str] = ...) -> None: ...

class JobError(_message.Message):
    __slots__ = ("reason", "message", "remedy", "log", "provider", "retryable")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    remedy: str
    log: _containers.RepeatedScalarFieldContainer[str]
    provider: str
    retryable: bool
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ..., remedy: _Optional[str] = ..., log: _Optional[_Iterable[str]] = ..., provider: _Optional[str] = ..., retryable: _Optional[bool] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("status", "limit", "model", "kind", "key", "since", "cursor")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    status: str
    limit: int
    model: str
    kind: str
    key: str
    since: str
    cursor: str
    def __init__(self, status: _Optional[str] = ..., limit: _Optional[int] = ..., model: _Optional[str] = ..., kind: _Optional[str] = ..., key: _Optional[str] = ..., since: _Optional[str] = ..., cursor: _Optional[str] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs", "next_cursor")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_CURSOR_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    next_cursor: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., next_cursor: _Optional[str] = ...) -> None: ...

class WatchJobRequest(_message.Message):
    __slots__ = ("job_id", "from_seq", "from_claim")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    FROM_SEQ_FIELD_NUMBER: _ClassVar[int]
    FROM_CLAIM_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    from_seq: int
    from_claim: str
    def __init__(self, job_id: _Optional[str] = ..., from_seq: _Optional[int] = ..., from_claim: _Optional[str] = ...) -> None: ...

class JobEvent(_message.Message):
    __slots__ = ("chat", "completion", "waiting", "embedding", "deployment", "addition")
    CHAT_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    ADDITION_FIELD_NUMBER: _ClassVar[int]
    chat: ChatCompletionChunk
    completion: CompletionChunk
    waiting: JobWaiting
    embedding: EmbeddingsProgress
    deployment: DeploymentEvent
    addition: ModelAdditionEvent
    def __init__(self, chat: _Optional[_Union[ChatCompletionChunk, _Mapping]] = ..., completion: _Optional[_Union[CompletionChunk, _Mapping]] = ..., waiting: _Optional[_Union[JobWaiting, _Mapping]] = ..., embedding: _Optional[_Union[EmbeddingsProgress, _Mapping]] = ..., deployment: _Optional[_Union[DeploymentEvent, _Mapping]] = ..., addition: _Optional[_Union[ModelAdditionEvent, _Mapping]] = ...) -> None: ...

class JobWaiting(_message.Message):
    __slots__ = ("position", "eta_s", "loading")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ETA_S_FIELD_NUMBER: _ClassVar[int]
    LOADING_FIELD_NUMBER: _ClassVar[int]
    position: int
    eta_s: float
    loading: ModelLoading
    def __init__(self, position: _Optional[int] = ..., eta_s: _Optional[float] = ..., loading: _Optional[_Union[ModelLoading, _Mapping]] = ...) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class CancelJobResponse(_message.Message):
    __slots__ = ("job_id", "status")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    status: str
    def __init__(self, job_id: _Optional[str] = ..., status: _Optional[str] = ...) -> None: ...

class GetHistoryRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetHistoryResponse(_message.Message):
    __slots__ = ("every_s", "since", "points", "ends", "failures", "replies", "providers")
    EVERY_S_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    ENDS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    REPLIES_FIELD_NUMBER: _ClassVar[int]
    PROVIDERS_FIELD_NUMBER: _ClassVar[int]
    every_s: int
    since: str
    points: _containers.RepeatedCompositeFieldContainer[HistoryPoint]
    ends: _containers.RepeatedCompositeFieldContainer[EndCount]
    failures: _containers.RepeatedCompositeFieldContainer[ReasonCount]
    replies: _containers.RepeatedCompositeFieldContainer[ReplyCount]
    providers: _containers.RepeatedCompositeFieldContainer[ProviderCalls]
    def __init__(self, every_s: _Optional[int] = ..., since: _Optional[str] = ..., points: _Optional[_Iterable[_Union[HistoryPoint, _Mapping]]] = ..., ends: _Optional[_Iterable[_Union[EndCount, _Mapping]]] = ..., failures: _Optional[_Iterable[_Union[ReasonCount, _Mapping]]] = ..., replies: _Optional[_Iterable[_Union[ReplyCount, _Mapping]]] = ..., providers: _Optional[_Iterable[_Union[ProviderCalls, _Mapping]]] = ...) -> None: ...

class HistoryPoint(_message.Message):
    __slots__ = ("at", "tokens_per_second", "running", "slots", "interactive", "background", "ended", "failed", "refused", "provider_calls", "provider_errors")
    AT_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    INTERACTIVE_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_CALLS_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_ERRORS_FIELD_NUMBER: _ClassVar[int]
    at: str
    tokens_per_second: float
    running: int
    slots: int
    interactive: int
    background: int
    ended: int
    failed: int
    refused: int
    provider_calls: int
    provider_errors: int
    def __init__(self, at: _Optional[str] = ..., tokens_per_second: _Optional[float] = ..., running: _Optional[int] = ..., slots: _Optional[int] = ..., interactive: _Optional[int] = ..., background: _Optional[int] = ..., ended: _Optional[int] = ..., failed: _Optional[int] = ..., refused: _Optional[int] = ..., provider_calls: _Optional[int] = ..., provider_errors: _Optional[int] = ...) -> None: ...

class EndCount(_message.Message):
    __slots__ = ("end", "count")
    END_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    end: str
    count: int
    def __init__(self, end: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class ReasonCount(_message.Message):
    __slots__ = ("reason", "count")
    REASON_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    reason: str
    count: int
    def __init__(self, reason: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class ReplyCount(_message.Message):
    __slots__ = ("status", "reason", "count")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    status: int
    reason: str
    count: int
    def __init__(self, status: _Optional[int] = ..., reason: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class ProviderCalls(_message.Message):
    __slots__ = ("provider", "calls", "errors", "ends")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    ENDS_FIELD_NUMBER: _ClassVar[int]
    provider: str
    calls: int
    errors: int
    ends: _containers.RepeatedCompositeFieldContainer[EndCount]
    def __init__(self, provider: _Optional[str] = ..., calls: _Optional[int] = ..., errors: _Optional[int] = ..., ends: _Optional[_Iterable[_Union[EndCount, _Mapping]]] = ...) -> None: ...

class GetQueueRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class GetQueueResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelQueue]
    def __init__(self, models: _Optional[_Iterable[_Union[ModelQueue, _Mapping]]] = ...) -> None: ...

class ModelQueue(_message.Message):
    __slots__ = ("id", "interactive", "background", "replicas", "slots", "running", "demand")
    ID_FIELD_NUMBER: _ClassVar[int]
    INTERACTIVE_FIELD_NUMBER: _ClassVar[int]
    BACKGROUND_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    DEMAND_FIELD_NUMBER: _ClassVar[int]
    id: str
    interactive: Waiting
    background: Waiting
    replicas: int
    slots: int
    running: int
    demand: int
    def __init__(self, id: _Optional[str] = ..., interactive: _Optional[_Union[Waiting, _Mapping]] = ..., background: _Optional[_Union[Waiting, _Mapping]] = ..., replicas: _Optional[int] = ..., slots: _Optional[int] = ..., running: _Optional[int] = ..., demand: _Optional[int] = ...) -> None: ...

class Waiting(_message.Message):
    __slots__ = ("waiting", "oldest_wait_s", "eta_s", "first")
    WAITING_FIELD_NUMBER: _ClassVar[int]
    OLDEST_WAIT_S_FIELD_NUMBER: _ClassVar[int]
    ETA_S_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    waiting: int
    oldest_wait_s: float
    eta_s: float
    first: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, waiting: _Optional[int] = ..., oldest_wait_s: _Optional[float] = ..., eta_s: _Optional[float] = ..., first: _Optional[_Iterable[str]] = ...) -> None: ...

class ListKeysRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListKeysResponse(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[Key]
    def __init__(self, keys: _Optional[_Iterable[_Union[Key, _Mapping]]] = ...) -> None: ...

class GetKeyRequest(_message.Message):
    __slots__ = ("key_id",)
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    def __init__(self, key_id: _Optional[str] = ...) -> None: ...

class Key(_message.Message):
    __slots__ = ("id", "name", "prefix", "status", "scopes", "models", "requests_per_minute", "tokens_per_minute", "weight", "created_at", "expires_at", "revoked_at", "rotated_at", "old_secret_until", "remaining_requests", "remaining_tokens", "reset_s")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_PER_MINUTE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_MINUTE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    REVOKED_AT_FIELD_NUMBER: _ClassVar[int]
    ROTATED_AT_FIELD_NUMBER: _ClassVar[int]
    OLD_SECRET_UNTIL_FIELD_NUMBER: _ClassVar[int]
    REMAINING_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    REMAINING_TOKENS_FIELD_NUMBER: _ClassVar[int]
    RESET_S_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    prefix: str
    status: str
    scopes: _containers.RepeatedScalarFieldContainer[str]
    models: _containers.RepeatedScalarFieldContainer[str]
    requests_per_minute: int
    tokens_per_minute: int
    weight: int
    created_at: str
    expires_at: str
    revoked_at: str
    rotated_at: str
    old_secret_until: str
    remaining_requests: int
    remaining_tokens: int
    reset_s: float
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., prefix: _Optional[str] = ..., status: _Optional[str] = ..., scopes: _Optional[_Iterable[str]] = ..., models: _Optional[_Iterable[str]] = ..., requests_per_minute: _Optional[int] = ..., tokens_per_minute: _Optional[int] = ..., weight: _Optional[int] = ..., created_at: _Optional[str] = ..., expires_at: _Optional[str] = ..., revoked_at: _Optional[str] = ..., rotated_at: _Optional[str] = ..., old_secret_until: _Optional[str] = ..., remaining_requests: _Optional[int] = ..., remaining_tokens: _Optional[int] = ..., reset_s: _Optional[float] = ...) -> None: ...

class CreateKeyRequest(_message.Message):
    __slots__ = ("name", "scopes", "models", "requests_per_minute", "tokens_per_minute", "weight", "expires_at")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_PER_MINUTE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_MINUTE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    name: str
    scopes: _containers.RepeatedScalarFieldContainer[str]
    models: _containers.RepeatedScalarFieldContainer[str]
    requests_per_minute: int
    tokens_per_minute: int
    weight: int
    expires_at: str
    def __init__(self, name: _Optional[str] = ..., scopes: _Optional[_Iterable[str]] = ..., models: _Optional[_Iterable[str]] = ..., requests_per_minute: _Optional[int] = ..., tokens_per_minute: _Optional[int] = ..., weight: _Optional[int] = ..., expires_at: _Optional[str] = ...) -> None: ...

class NewKey(_message.Message):
    __slots__ = ("id", "name", "prefix", "status", "scopes", "models", "requests_per_minute", "tokens_per_minute", "weight", "created_at", "expires_at", "revoked_at", "rotated_at", "old_secret_until", "secret")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_PER_MINUTE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_MINUTE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    REVOKED_AT_FIELD_NUMBER: _ClassVar[int]
    ROTATED_AT_FIELD_NUMBER: _ClassVar[int]
    OLD_SECRET_UNTIL_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    prefix: str
    status: str
    scopes: _containers.RepeatedScalarFieldContainer[str]
    models: _containers.RepeatedScalarFieldContainer[str]
    requests_per_minute: int
    tokens_per_minute: int
    weight: int
    created_at: str
    expires_at: str
    revoked_at: str
    rotated_at: str
    old_secret_until: str
    secret: str
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., prefix: _Optional[str] = ..., status: _Optional[str] = ..., scopes: _Optional[_Iterable[str]] = ..., models: _Optional[_Iterable[str]] = ..., requests_per_minute: _Optional[int] = ..., tokens_per_minute: _Optional[int] = ..., weight: _Optional[int] = ..., created_at: _Optional[str] = ..., expires_at: _Optional[str] = ..., revoked_at: _Optional[str] = ..., rotated_at: _Optional[str] = ..., old_secret_until: _Optional[str] = ..., secret: _Optional[str] = ...) -> None: ...

class UpdateKeyRequest(_message.Message):
    __slots__ = ("key_id", "name", "models", "requests_per_minute", "tokens_per_minute", "weight", "expires_at")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_PER_MINUTE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_MINUTE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    name: str
    models: ModelIds
    requests_per_minute: int
    tokens_per_minute: int
    weight: int
    expires_at: str
    def __init__(self, key_id: _Optional[str] = ..., name: _Optional[str] = ..., models: _Optional[_Union[ModelIds, _Mapping]] = ..., requests_per_minute: _Optional[int] = ..., tokens_per_minute: _Optional[int] = ..., weight: _Optional[int] = ..., expires_at: _Optional[str] = ...) -> None: ...

class ModelIds(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, ids: _Optional[_Iterable[str]] = ...) -> None: ...

class RotateKeyRequest(_message.Message):
    __slots__ = ("key_id", "grace_s")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    GRACE_S_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    grace_s: int
    def __init__(self, key_id: _Optional[str] = ..., grace_s: _Optional[int] = ...) -> None: ...

class RevokeKeyRequest(_message.Message):
    __slots__ = ("key_id",)
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    def __init__(self, key_id: _Optional[str] = ...) -> None: ...

class RevokedKey(_message.Message):
    __slots__ = ("id", "name", "prefix", "status", "scopes", "models", "requests_per_minute", "tokens_per_minute", "weight", "created_at", "expires_at", "revoked_at", "rotated_at", "old_secret_until", "cancelled_jobs")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_PER_MINUTE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_MINUTE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    REVOKED_AT_FIELD_NUMBER: _ClassVar[int]
    ROTATED_AT_FIELD_NUMBER: _ClassVar[int]
    OLD_SECRET_UNTIL_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_JOBS_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    prefix: str
    status: str
    scopes: _containers.RepeatedScalarFieldContainer[str]
    models: _containers.RepeatedScalarFieldContainer[str]
    requests_per_minute: int
    tokens_per_minute: int
    weight: int
    created_at: str
    expires_at: str
    revoked_at: str
    rotated_at: str
    old_secret_until: str
    cancelled_jobs: int
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., prefix: _Optional[str] = ..., status: _Optional[str] = ..., scopes: _Optional[_Iterable[str]] = ..., models: _Optional[_Iterable[str]] = ..., requests_per_minute: _Optional[int] = ..., tokens_per_minute: _Optional[int] = ..., weight: _Optional[int] = ..., created_at: _Optional[str] = ..., expires_at: _Optional[str] = ..., revoked_at: _Optional[str] = ..., rotated_at: _Optional[str] = ..., old_secret_until: _Optional[str] = ..., cancelled_jobs: _Optional[int] = ...) -> None: ...

class ListAuditRequest(_message.Message):
    __slots__ = ("limit", "cursor")
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    limit: int
    cursor: str
    def __init__(self, limit: _Optional[int] = ..., cursor: _Optional[str] = ...) -> None: ...

class ListAuditResponse(_message.Message):
    __slots__ = ("entries", "next_cursor")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_CURSOR_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[AuditEntry]
    next_cursor: str
    def __init__(self, entries: _Optional[_Iterable[_Union[AuditEntry, _Mapping]]] = ..., next_cursor: _Optional[str] = ...) -> None: ...

class AuditEntry(_message.Message):
    __slots__ = ("id", "at", "action", "target", "key_id", "key_name", "face", "details")
    ID_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_NAME_FIELD_NUMBER: _ClassVar[int]
    FACE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    id: str
    at: str
    action: str
    target: str
    key_id: str
    key_name: str
    face: str
    details: _struct_pb2.Struct
    def __init__(self, id: _Optional[str] = ..., at: _Optional[str] = ..., action: _Optional[str] = ..., target: _Optional[str] = ..., key_id: _Optional[str] = ..., key_name: _Optional[str] = ..., face: _Optional[str] = ..., details: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...

class GetUsageRequest(_message.Message):
    __slots__ = ("key_id", "model", "start", "end", "by")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    model: str
    start: str
    end: str
    by: str
    def __init__(self, key_id: _Optional[str] = ..., model: _Optional[str] = ..., start: _Optional[str] = ..., end: _Optional[str] = ..., by: _Optional[str] = ...) -> None: ...

class UsageReport(_message.Message):
    __slots__ = ("start", "end", "usage", "total")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    start: str
    end: str
    usage: _containers.RepeatedCompositeFieldContainer[UsageRow]
    total: UsageTotal
    def __init__(self, start: _Optional[str] = ..., end: _Optional[str] = ..., usage: _Optional[_Iterable[_Union[UsageRow, _Mapping]]] = ..., total: _Optional[_Union[UsageTotal, _Mapping]] = ...) -> None: ...

class UsageRow(_message.Message):
    __slots__ = ("key_id", "key_name", "model", "jobs", "prompt_tokens", "completion_tokens", "total_tokens", "cost", "currency", "day")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    DAY_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    key_name: str
    model: str
    jobs: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost: float
    currency: str
    day: str
    def __init__(self, key_id: _Optional[str] = ..., key_name: _Optional[str] = ..., model: _Optional[str] = ..., jobs: _Optional[int] = ..., prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., total_tokens: _Optional[int] = ..., cost: _Optional[float] = ..., currency: _Optional[str] = ..., day: _Optional[str] = ...) -> None: ...

class UsageTotal(_message.Message):
    __slots__ = ("jobs", "prompt_tokens", "completion_tokens", "total_tokens", "cost")
    class CostEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    JOBS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    jobs: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost: _containers.ScalarMap[str, float]
    def __init__(self, jobs: _Optional[int] = ..., prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., total_tokens: _Optional[int] = ..., cost: _Optional[_Mapping[str, float]] = ...) -> None: ...
