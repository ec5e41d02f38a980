"""The command line: what is wrong is said before anything starts."""

import subprocess
import sys
from pathlib import Path

import pytest

from autoscaler.__main__ import main

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--listen", "nowhere"], id="no port"),
        pytest.param(["--listen", "127.0.0.1:99999"], id="no such port"),
        pytest.param(["--log-level", "loud"], id="no such level"),
        pytest.param(["--scrape-period", "often"], id="no number"),
        pytest.param(["--prometheus-url", "prometheus:9090"], id="no URL"),
    ],
)
def test_a_wrong_argument_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert caught.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def controller(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "autoscaler", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=50)


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "no-such-file"

    ended = controller("--kubeconfig", str(missing), "--listen", "127.0.0.1:0")

    assert ended.returncode == 2
    assert str(missing) in ended.stderr
    assert "Traceback" not in ended.stderr


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys, contextlib, io\n"
        "from autoscaler.__main__ import main\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "    main(['--help'])\n"
        "heavy = {'kubernetes_asyncio', 'aiohttp', 'pydantic', 'opentelemetry', 'requests'}\n"
        "print(sorted(sys.modules.keys() & heavy))\n"
    )

    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert ended.stdout.strip() == "[]"
