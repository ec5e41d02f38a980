"""A profile goes to a file and comes back; a bad file and a load beyond what was measured are refused."""

from pathlib import Path

import numpy as np
import pytest

from simulations.calibration import (
    Coverage,
    ExtrapolationError,
    MachineProfile,
    ProfileError,
    coverage_of_records,
    profile_text,
    read_profile,
)
from simulations.compiled.fleet import replay_compiled, requests_of
from simulations.replica import EngineConfig, StepTimes

TIMES = StepTimes(base_s=7e-3, prefill_token_s=15e-6, decode_sequence_s=12e-6, kv_token_s=46e-9, attention_pair_s=1e-9)
PROFILE = MachineProfile(
    name="ours",
    config=EngineConfig(max_num_seqs=32, num_gpu_blocks=900, max_model_len_tokens=4096, caches_prefixes=False),
    times=TIMES,
    coverage=Coverage(prompt_tokens=2000, running_requests=20, kv_tokens=9000),
    request_overhead_s=0.004,
    remarks=("the data cannot tell per KV token read",),
)


def test_a_profile_comes_back_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "ours.yaml"
    file.write_text(profile_text(PROFILE), encoding="utf-8")

    assert read_profile(file) == PROFILE


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(("kvToken: 4.6e-08", "kvToken: -1"), "stepSeconds.kvToken", id="negative"),
        pytest.param(("kvToken: 4.6e-08", "kvTokens: 1"), "stepSeconds.kvToken: Field required", id="unknown name"),
        pytest.param(("maxNumSeqs: 32", "maxNumSeqs: many"), "engine.maxNumSeqs", id="text"),
        pytest.param(("numGpuBlocks: 900", "numGpuBlocks: 9"), "the KV cache holds", id="too small a cache"),
        pytest.param(("name: ours", "name: [ours"), "not YAML", id="no YAML"),
        pytest.param((profile_text(PROFILE), "just words"), "the document", id="no mapping"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_field(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    file, text = tmp_path / "bad.yaml", profile_text(PROFILE)
    assert change[0] in text
    file.write_text(text.replace(*change), encoding="utf-8")

    with pytest.raises(ProfileError, match=r"bad\.yaml") as caught:
        read_profile(file)

    assert said in str(caught.value)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"absent\.yaml: cannot be read"):
        read_profile(tmp_path / "absent.yaml")


def test_a_load_beyond_what_was_measured_is_refused_with_both_numbers() -> None:
    wide = Coverage(prompt_tokens=2000, running_requests=64, kv_tokens=9500)

    PROFILE.coverage.check(Coverage(prompt_tokens=10, running_requests=1, kv_tokens=9500))
    with pytest.raises(ExtrapolationError, match=r"running requests up to 64, measured up to 20$"):
        PROFILE.coverage.check(wide)


def test_the_busiest_replica_of_a_simulation_is_what_is_asked() -> None:
    at_s = np.array([0.0, 0.0, 0.0, 50.0])
    tokens = np.array([100, 200, 300, 400], dtype=np.int32)
    requests = replay_compiled(requests_of(at_s, tokens, np.full(4, 10, np.int32)), 2, PROFILE.config, TIMES).requests

    asked = coverage_of_records(requests)

    assert (asked.prompt_tokens, asked.running_requests) == (400, 2)
    assert asked.kv_tokens == max(100 + 300, 400) + 2 * 5
