"""A command line written for the real server starts the emulator; what a real one refuses is refused."""

import pytest

from simulations.cluster.vllm import BadOptionsError, ServerOptions, parse_options
from simulations.cluster.vllm.options import more_arguments
from simulations.replica import PROFILES


def test_a_real_servers_command_line_is_understood() -> None:
    options, listen = parse_options(
        [
            *("python3", "-m", "vllm.entrypoints.openai.api_server", "--port=8080", "--model=/mnt/models"),
            *("--served-model-name", "llama", "llama-alias", "--tensor-parallel-size", "2", "--max-num-seqs=64"),
            *("--max-model-len", "4096", "--stream-interval", "8", "--shutdown-timeout", "30", "--enforce-eager"),
        ]
    )

    assert listen.port == 8080
    assert options.model_name == "llama"
    assert (options.engine.max_num_seqs, options.engine.max_model_len_tokens) == (64, 4096)
    assert (options.stream_interval_tokens, options.shutdown_timeout_s) == (8, 30.0)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        pytest.param(["--model_name=iris"], "iris", id="KServe's underscore"),
        pytest.param(["vllm", "serve", "Qwen/Qwen3-8B"], "Qwen/Qwen3-8B", id="serve MODEL"),
        pytest.param(["serve", "--port", "1"], "m", id="serve without a model"),
        pytest.param(["--model", "/mnt/models"], "/mnt/models", id="model path"),
        pytest.param([], "m", id="nothing"),
    ],
)
def test_the_model_is_named_as_the_real_server_names_it(arguments: list[str], name: str) -> None:
    assert parse_options(arguments)[0].model_name == name


def test_the_emulators_own_flags() -> None:
    options, _ = parse_options(
        [
            "--profile",
            "llama-3.1-8b-a100",
            "--time-scale",
            "10",
            "--startup-seconds",
            "60",
            "--no-enable-prefix-caching",
        ]
    )

    assert options.real_startup_s == 6.0
    assert options.real_step_times.base_s == PROFILES["llama-3.1-8b-a100"].base_s / 10
    assert not options.engine.caches_prefixes


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--port", "http"], "--port"),
        (["--profile", "abacus"], "--profile"),
        (["--max-num-seqs", "0"], "max_num_seqs is 0"),
        (["--num-gpu-blocks", "64"], "max_model_len_tokens is 8192"),
        (["--time-scale", "0"], "time_scale is 0"),
        (["--time-scale", "nan"], "time_scale is nan"),
        (["--startup-seconds", "-1"], "startup_s is -1"),
        (["--stream-interval", "0"], "stream_interval_tokens is 0"),
        (["--metrics-version", "0.1"], "--metrics-version"),
        (["--served-model-name", ""], "model_name is empty"),
    ],
)
def test_bad_values_are_named(arguments: list[str], named: str) -> None:
    with pytest.raises(BadOptionsError, match=named):
        parse_options(arguments)


def test_an_unknown_metrics_version_lists_the_known_ones() -> None:
    with pytest.raises(BadOptionsError, match=r"'0\.99', known are 0\.8, .*0\.32"):
        ServerOptions(metrics_version="0.99")


def test_arguments_come_from_the_environment_too() -> None:
    assert more_arguments({"VLLM_EMULATOR_ARGS": " --time-scale 5 "}) == ["--time-scale", "5"]
    assert more_arguments({}) == []
