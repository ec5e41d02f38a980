"""Where the agent finds its kubeconfig, and what it says where there is none."""

from pathlib import Path

import pytest

from nodeagent.errors import BadStartError
from nodeagent.kube import NodeApi


@pytest.mark.parametrize(
    ("named", "said"),
    [
        pytest.param("", "kubeconfig ~/.kube/config: there is none; --kubeconfig or KUBECONFIG", id="nowhere"),
        pytest.param("/nope:/nada", "kubeconfig /nope:/nada: there is none; --kubeconfig or KUBECONFIG", id="a list"),
    ],
)
async def test_where_no_kubeconfig_is_one_is_told_how_to_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, said: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", named)

    with pytest.raises(BadStartError, match=said):
        async with NodeApi():
            pass


async def test_a_kubeconfig_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text("contexts: [")

    with pytest.raises(BadStartError, match=f"kubeconfig {path}: cannot be used"):
        async with NodeApi(path):
            pass
