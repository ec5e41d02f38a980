"""What a node should hold, from two kinds of objects."""

from pathlib import Path
from typing import Any

import pytest

from cacheops.config import NodeTask, NodeWish
from cacheops.manifest_file import Published
from cacheops.model import Algorithm, FileEntry, ModelManifest, ModelRef, storage_key
from cacheops.stock import WantedTree
from nodeagent.wishes import MODELS_MAX, LocalModel, Wishes, local_models, wishes_of

URI = "hf://org/alpha"
KEY = storage_key(URI)
FILE = FileEntry(path="config.json", size_bytes=7, algorithm=Algorithm.SHA256, digest="a" * 64)
MANIFEST = ModelManifest(ref=ModelRef(uri=URI), resolved_revision="c1", files=(FILE,))
NOTHING = NodeTask()
LOCAL = (LocalModel(name="alpha", uri=URI),)


def found(task: NodeTask = NOTHING, local: tuple[LocalModel, ...] = LOCAL, **known: Any) -> Wishes:
    known = {"published": {}, "manifests": {}, "retry_at_s": {}} | known
    return wishes_of(task, local, **known)


def test_names_are_kserve_s_keys() -> None:
    obj = {
        "spec": {
            "localModels": [
                {"modelName": "a", "sourceModelUri": URI},
                {"modelName": "a", "namespace": "ns", "sourceModelUri": URI},
            ]
        }
    }

    assert local_models(obj) == (LocalModel(name="a", uri=URI), LocalModel(name="ns/a", uri=URI))
    assert local_models({}) == ()


def test_a_list_without_end_is_cut() -> None:
    entry = {"modelName": "a", "sourceModelUri": URI}

    assert len(local_models({"spec": {"localModels": [entry] * (MODELS_MAX + 1)}})) == MODELS_MAX


def test_what_nobody_resolved_must_be_resolved_first_once() -> None:
    twice = (*LOCAL, LocalModel(name="ns/alpha", uri=URI))

    wishes = found(local=twice)

    assert (wishes.ready, [ref.uri for ref in wishes.unresolved]) == ((), [URI])


def test_what_was_resolved_can_be_fetched_when_its_time_has_come() -> None:
    [wish] = found(manifests={KEY: MANIFEST}, retry_at_s={KEY: 99.0}).ready

    assert (wish.tree.digest, wish.tree.size_bytes, wish.tree.retry_at_s) == (MANIFEST.digest, 7, 99.0)


def test_what_is_published_stays_though_its_branch_moved_on() -> None:
    published = Published(manifest=MANIFEST, source_digest="d" * 64, published_at_s=1.0, path=Path("/x") / KEY)

    [wish] = found(published={KEY: published}, manifests={KEY: MANIFEST}).ready

    assert wish.tree.digest == "d" * 64


def test_a_node_model_cache_counts_for_what_both_want() -> None:
    tree = WantedTree(key=KEY, digest="e" * 64, size_bytes=9, is_pinned=True, replicas=4)
    task = NodeTask(wishes=(NodeWish(ref=ModelRef(uri=URI, revision="c9"), tree=tree),))

    [wish] = found(task, manifests={KEY: MANIFEST}, retry_at_s={KEY: 5.0}).ready

    assert (wish.ref.revision, wish.tree.digest, wish.tree.retry_at_s) == ("c9", "e" * 64, 5.0)
    assert (wish.tree.is_pinned, wish.tree.replicas) == (True, 4)


@pytest.mark.parametrize("uri", ["ftp://x/y", "hf://", "nonsense", "hf://a/../b"])
def test_a_uri_that_cannot_be_used_says_why(uri: str) -> None:
    wishes = found(local=(LocalModel(name="odd", uri=uri), *LOCAL))

    assert list(wishes.unusable) == [storage_key(uri)]
    assert wishes.unusable[storage_key(uri)]
    assert [ref.uri for ref in wishes.unresolved] == [URI]
