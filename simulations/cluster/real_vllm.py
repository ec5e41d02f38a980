"""A real vLLM on this machine's CPU: where it is installed, a model without weights, how a server is started.

Nothing of vLLM is imported: it lives in a venv of its own (`tests/realvllm/install.sh`) and runs as processes.
The model is a Llama of two layers that exists as `config.json` alone: vLLM fills it with random numbers, and
prompts are token ids, so neither weights nor a tokenizer are needed. A token id beyond its vocabulary would
end the server, hence one as large as that of the prompts that `loadgen` makes.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from simulations.cluster.loadgen import SPECIAL_IDS, VOCABULARY

VERSION = "0.32.0"
VENV_VARIABLE = "WARMTIDE_VLLM"  # the venv, where it is not in the cache folder
SERVED_NAME = "llama"
HEALTHY_WITHIN_S = 300.0  # 35 s alone on a core; three at a time on two shared cores take three times as long

_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
    "vocab_size": VOCABULARY + SPECIAL_IDS,
    "torch_dtype": "bfloat16",
    "bos_token_id": 1,
    "eos_token_id": 2,
}

# On a CPU vLLM would take all memory, all cores, a process more, and a look at the network.
ENVIRONMENT: Mapping[str, str] = {
    "VLLM_TARGET_DEVICE": "cpu",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}

FLAGS: Sequence[str] = (
    "--load-format=dummy",
    "--skip-tokenizer-init",
    "--enforce-eager",  # compiling takes longer than everything else
    "--distributed-executor-backend=uni",
    "--max-model-len=2048",
)


def find_venv(environment: Mapping[str, str]) -> Path | None:
    """The venv that the variable names, else the one in the cache folder; None where there is no vLLM in it."""
    if named := environment.get(VENV_VARIABLE):
        venv = Path(named)
    else:
        cache = environment.get("XDG_CACHE_HOME") or str(Path(environment.get("HOME", "/")) / ".cache")
        venv = Path(environment.get("WARMTIDE_CACHE") or f"{cache}/warmtide") / "vllm" / VERSION / "venv"
    return venv if (venv / "bin" / "vllm").exists() else None


def write_model(folder: Path) -> Path:
    """The model, in a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(_CONFIG, indent=2), encoding="utf-8")
    return folder


def serve_command(venv: Path, model: Path, *, host: str, port: int | str, limits: Sequence[str]) -> list[str]:
    """The command line of one server; `limits` are vLLM's own flags."""
    listen = (f"--host={host}", f"--port={port}", f"--served-model-name={SERVED_NAME}")
    return [str(venv / "bin" / "vllm"), "serve", str(model), *listen, *FLAGS, *limits]
