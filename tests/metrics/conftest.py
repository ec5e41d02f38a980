"""Pages and hypothesis strategies that several tests of this folder use."""

import shutil
import subprocess
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / ".." / "shared"


@pytest.fixture(params=["idle", "load"])
def real_page(request: pytest.FixtureRequest) -> bytes:
    """A page recorded from a vLLM 0.32 server."""
    path = SHARED / "vllm" / f"metrics-0.32-{request.param}.txt"
    if not path.exists():
        pytest.skip(f"no recorded vLLM page at {path.name}: ../shared is absent")
    return path.read_bytes()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CA, and a server certificate for localhost and 127.0.0.1 that it signed."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine to make certificates with")
    folder = tmp_path_factory.mktemp("authority")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=30)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Test CA", "-days", "2")
    openssl("req", *key, "-keyout", "pod.key", "-out", "pod.csr", "-subj", "/CN=localhost")
    (folder / "san").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "san")
    openssl("x509", "-req", "-in", "pod.csr", "-out", "pod.pem", *signing)
    return folder
