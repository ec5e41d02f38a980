"""What a fetch tells of itself."""

import pytest

from cacheops.config import NodeWish
from cacheops.download import Transfer
from cacheops.stock import WantedTree
from cacheops.uri import model_ref
from nodeagent.fetches import Fetch


class Fetched(Transfer):
    """A transfer that brought so much."""

    def __init__(self, fetched_bytes: int) -> None:
        super().__init__()
        self._fetched_bytes = fetched_bytes

    @property
    def fetched_bytes(self) -> int:
        return self._fetched_bytes


@pytest.mark.parametrize(
    ("fetched_bytes", "whole_s"),
    [
        pytest.param(1000, 10.0, id="all of it"),
        pytest.param(1200, 10.0, id="some of it twice"),
        pytest.param(500, 20.0, id="just half: at its speed"),
        pytest.param(499, None, id="the end of a resumed one: says nothing"),
        pytest.param(0, None, id="nothing, all was staged"),
    ],
)
def test_what_a_whole_fetch_takes_is_told_by_one_that_brought_half(fetched_bytes: int, whole_s: float | None) -> None:
    tree = WantedTree(key="0123456789abcdef", digest="d", size_bytes=1000)
    fetch = Fetch(NodeWish(ref=model_ref("hf://org/name"), tree=tree), Fetched(fetched_bytes), started_at_s=100.0)

    assert fetch.whole_s(110.0) == whole_s
