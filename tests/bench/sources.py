"""SmolLM2 in other formats, made of its GGUF file: bfloat16 safetensors and float16 OpenVINO IR. No hub needed.

`python -m tests.bench.sources FOLDER` saves safetensors.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy

from gateway.models.catalog import load_catalog
from gateway.settings import Settings
from tests.bench.workload import MODEL


def gguf_file() -> Path:
    """The installed model."""
    path = load_catalog(Settings.load({})).get(MODEL).path()
    assert path is not None
    return path


def save_safetensors(source: Path, folder: Path) -> Path:
    """Save a GGUF file of a Llama in bfloat16, with its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    read: Any = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    read.config.__dict__.pop("quantization_config", None)
    model: Any = LlamaForCausalLM(read.config)
    model.load_state_dict(read.state_dict())
    model.to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(folder)
    return folder


def save_ir(source: Path, folder: Path, *, as_stored: bool = False) -> Path:
    """Save a GGUF file as IR, with weights in float16 or as they are stored."""
    import openvino_genai

    file = folder / "model.gguf"
    if as_stored:
        file.symlink_to(source)
    else:
        _save_float16(source, file)
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.num_kv_blocks = 16
    openvino_genai.ContinuousBatchingPipeline(file, scheduler, "CPU", {"enable_save_ov_model": True}, {})
    file.unlink()
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2}))
    return folder


def _save_float16(source: Path, file: Path) -> None:
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(file, str(reader.fields["general.architecture"].contents()))
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            inner = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            value = int(gguf.LlamaFileType.MOSTLY_F16) if field.name == "general.file_type" else field.contents()
            writer.add_key_value(field.name, value, field.types[0], sub_type=inner)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, values.astype(numpy.float32 if values.ndim == 1 else numpy.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    save_safetensors(gguf_file(), Path(sys.argv[1]))
