"""Models that somebody wants kept on this node whatever the plan is worth: one small file each, made by hand."""

from cacheops.errors import from_os
from cacheops.layout import Layout


def pinned_keys(layout: Layout) -> frozenset[str]:
    """Keys of pinned models, published or not."""
    folder = layout.own / "pins"
    try:
        return frozenset(path.name for path in folder.iterdir()) if folder.is_dir() else frozenset()
    except OSError as exc:
        raise from_os(exc, f"pins of {layout.root}: cannot be read") from exc


def set_pin(layout: Layout, key: str, *, is_pinned: bool) -> None:
    """Pin a model, or let go of it. Safe to repeat."""
    path = layout.own / "pins" / key
    try:
        if is_pinned:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            path.touch(mode=0o600)
        else:
            path.unlink(missing_ok=True)
    except OSError as exc:
        raise from_os(exc, f"pin of {key} in {layout.root}: cannot be written") from exc
