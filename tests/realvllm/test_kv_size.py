"""KV blocks by vLLM's own code: what a server of that model would have, and what no server would start with."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "vocab_size": 128256,
    "torch_dtype": "bfloat16",
}
# Of an 80 GB board: nine tenths less 18.1 GB of weights and activations.
CACHE_GIB = (80 * 2**30 * 0.9 - 18.1e9) / 2**30
BYTES_PER_TOKEN = 2 * 32 * 8 * 128 * 2  # keys and values, layers, heads, head size, bfloat16


def sized(venv: Path, model: Path, *, tensor_parallel: int) -> subprocess.CompletedProcess[str]:
    (model / "config.json").write_text(json.dumps(LLAMA_8B))
    code = (
        "from pathlib import Path\n"
        "from simulations.kv_size import kv_size\n"
        f"found = kv_size(Path({str(model)!r}), cache_gib={CACHE_GIB}, tensor_parallel={tensor_parallel})\n"
        "print('blocks', found.num_gpu_blocks)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "VLLM_TARGET_DEVICE": "cpu", "HF_HUB_OFFLINE": "1"}
    command = [str(venv / "bin" / "python"), "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("tensor_parallel", [1, 4])
def test_blocks_are_what_the_memory_holds(venv: Path, tmp_path: Path, tensor_parallel: int) -> None:
    done = sized(venv, tmp_path, tensor_parallel=tensor_parallel)

    assert done.returncode == 0, done.stderr[-2000:]
    [blocks] = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("blocks ")]
    assert blocks == int(CACHE_GIB * 2**30 * tensor_parallel // (16 * BYTES_PER_TOKEN))


def test_a_configuration_that_no_server_starts_with_is_refused_in_vllms_words(venv: Path, tmp_path: Path) -> None:
    done = sized(venv, tmp_path, tensor_parallel=3)

    assert done.returncode != 0
    assert "UsageError: vLLM refuses" in done.stderr
    assert "must be divisible by tensor parallel size" in done.stderr
