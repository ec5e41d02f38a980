"""Pages and hypothesis strategies that several tests of this folder use."""

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("warmtide", deadline=None, max_examples=150, derandomize=True)
settings.load_profile("warmtide")

SHARED = Path(__file__).parents[2] / ".." / "shared"


@pytest.fixture(params=["idle", "load"])
def real_page(request: pytest.FixtureRequest) -> bytes:
    """A page recorded from a vLLM 0.32 server."""
    path = SHARED / "vllm" / f"metrics-0.32-{request.param}.txt"
    if not path.exists():
        pytest.skip(f"no recorded vLLM page at {path.name}: ../shared is absent")
    return path.read_bytes()
