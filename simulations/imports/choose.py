"""A policy by what a user calls it: a name of the catalog, or the file of his own object."""

from pathlib import Path

from simulations.errors import UsageError
from simulations.policies import Policy, Site, build
from simulations.policies.base import Pair, Role
from simulations.policies.catalog import FORESIGHT
from simulations.policies.pairs import paired
from simulations.world import Setting
from simulations.world.paired import setting_of_prefill

from .errors import ImportedObjectError
from .objects import Imported, import_policy

ENDINGS = (".yaml", ".yml", ".json")


def chosen(name: str, setting: Setting, *, eagerness_ratio: float = 1.0) -> Policy:
    """With a fresh memory; a user's own object is taken as it is. ValueError, UsageError, ImportedObjectError."""
    if setting.scales_both:
        raise UsageError("both its pools are scaled: only of one service alone, in a file of its own")
    role = None if setting.fixed_pool is None else setting.fixed_pool.scaled
    return _of_pool(name, setting, eagerness_ratio=eagerness_ratio, role=role)


def chosen_for_all(name: str, setting: Setting, *, eagerness_ratio: float = 1.0) -> Policy | Pair:
    """As `chosen`; where both pools are scaled, one for each, as if that were a service of its own."""
    if not setting.scales_both:
        return chosen(name, setting, eagerness_ratio=eagerness_ratio)
    if name == FORESIGHT:
        raise UsageError(
            f"{FORESIGHT} knows what comes to a service, not what of it comes to which pool, and when: leave it out; "
            "what hindsight makes of both pools is told by warmtide sim oracle"
        )
    prefill = _of_pool(name, setting_of_prefill(setting), eagerness_ratio=eagerness_ratio, role=Role.PREFILL)
    return paired(prefill, _of_pool(name, setting, eagerness_ratio=eagerness_ratio, role=Role.DECODE))


def _of_pool(name: str, setting: Setting, *, eagerness_ratio: float, role: Role | None) -> Policy:
    if name.endswith(ENDINGS):
        return read_object(Path(name), setting).policy
    if name == FORESIGHT and (setting.follows is not None or setting.more is not None):
        raise UsageError(
            f"{FORESIGHT} must know all traffic before: not of clients who wait, nor of millions in parts; leave it out"
        )
    known = None if setting.follows is not None else setting.requests  # who waits for answers comes as they come
    seen = setting.first_machine  # who asks one replica what it can, asks the first
    site = Site(
        config=seen.config,
        times=seen.times,
        requests=known,
        eagerness_ratio=eagerness_ratio,
        role=role,
        itl_s=setting.itl_s,
    )
    return build(name, setting.bounds, ttft_s=setting.ttft_s, lead_time_s=setting.startup.cold_s, site=site)


def read_object(path: Path, setting: Setting) -> Imported:
    """The file's object; ImportedObjectError names the file."""
    try:
        return import_policy(path.read_text(encoding="utf-8"), setting.bounds)
    except OSError as exc:
        raise ImportedObjectError(f"{path} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ImportedObjectError(f"{path} cannot be read: {exc}") from exc
    except ImportedObjectError as exc:
        raise ImportedObjectError(f"{path}: {exc}") from exc
