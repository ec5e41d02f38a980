"""Who may say what lies in a model's folder: one ModelCache, or several that agree. Pure.

A folder holds one revision. The oldest ModelCache of a source decides which; another that names other files or another
revision of the same source is told so, and nothing of it is placed.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from autoscaler.caching.values import Folder, Holding, ModelUse


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One folder: the ModelCache that decides, and those that share it."""

    holder: Holding
    sharers: tuple[Holding, ...] = ()

    @property
    def all(self) -> Sequence[Holding]:
        """Everybody who wants it."""
        return (self.holder, *self.sharers)

    @property
    def copies_min(self) -> int:
        """The most that one of them asks for."""
        return max(holding.task.copies_min for holding in self.all)

    @property
    def copies_max(self) -> int | None:
        """The loosest bound; None: one of them has none."""
        bounds = [holding.task.copies_max for holding in self.all]
        finite = [bound for bound in bounds if bound is not None]
        return max(*finite, self.copies_min) if len(finite) == len(bounds) else None

    @property
    def is_pinned(self) -> bool:
        """Whether one of them pins it."""
        return any(holding.task.is_pinned for holding in self.all)

    @property
    def ttl_s(self) -> int | None:
        """The longest; None: one of them keeps it for good."""
        times = [holding.task.ttl_s for holding in self.all]
        finite = [time for time in times if time is not None]
        return max(finite) if len(finite) == len(times) else None


def claims_of(holdings: Iterable[Holding]) -> tuple[dict[str, Claim], dict[str, str]]:
    """Claims by key, and for each ModelCache that lost out the name of the one that decides."""
    claims: dict[str, Claim] = {}
    refused: dict[str, str] = {}
    for holding in sorted(holdings, key=lambda each: (each.created_at_s, each.name)):
        claim = claims.get(holding.key)
        if claim is None:
            claims[holding.key] = Claim(holder=holding)
        elif claim.holder.resolved.digest == holding.resolved.digest:
            claims[holding.key] = Claim(holder=claim.holder, sharers=(*claim.sharers, holding))
        else:
            refused[holding.name] = claim.holder.name
    return claims, refused


def folders_of(claims: Mapping[str, Claim], refused: Collection[str], uses: Iterable[ModelUse]) -> dict[str, Folder]:
    """By service, the folder that it reads; who reads through a ModelCache that lost out reads other bytes."""
    readers: dict[str, list[str]] = {}
    for use in uses:
        if use.key in claims and use.cache not in refused:
            readers.setdefault(use.key, []).append(use.service)
    found: dict[str, Folder] = {}
    for key, services in readers.items():
        claim = claims[key]
        folder = Folder(
            key=key,
            digest=claim.holder.resolved.digest,
            cache=claim.holder.name,
            is_pinned=claim.is_pinned,
            services=tuple(services),
        )
        found |= dict.fromkeys(services, folder)
    return found
