"""How many bytes a cache may hold on a disk it shares with a kubelet. Pure."""

from dataclasses import dataclass, replace

HIGH_RATIO, LOW_RATIO = 0.80, 0.70  # of the disk in use: shed above the one, down to the other (as GPUStack's store)
EVICTION_GAP_RATIO = 0.05  # stay so far below the kubelet's own eviction, which kills pods of others
NODEFS_AVAILABLE_RATIO = 0.10  # kubelet's default: evicts pods with less than this free
IMAGE_GC_RATIO = 0.85  # kubelet's default imageGCHighThresholdPercent: deletes images above


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """The file system under the cache, as it is now, and how far it may be filled."""

    capacity_bytes: int
    free_bytes: int
    quota_bytes: int | None = None  # of the cache alone: policy, or LocalModelNodeGroup.storageLimit
    high_ratio: float = HIGH_RATIO
    low_ratio: float = LOW_RATIO
    kubelet_free_ratio: float = NODEFS_AVAILABLE_RATIO
    kubelet_image_gc_ratio: float = IMAGE_GC_RATIO

    def __post_init__(self) -> None:
        if not 0 <= self.free_bytes <= self.capacity_bytes:
            raise ValueError(f"disk: free_bytes {self.free_bytes} is not within capacity_bytes {self.capacity_bytes}")
        if self.quota_bytes is not None and self.quota_bytes < 0:
            raise ValueError(f"disk: quota_bytes {self.quota_bytes} is negative")
        if not 0 < self.low_ratio <= self.high_ratio <= 1:
            raise ValueError(f"disk: watermarks {self.low_ratio} and {self.high_ratio} are not 0 < low ≤ high ≤ 1")

    def unshared(self) -> "Disk":
        """Of a disk that no kubelet watches: only the watermarks count."""
        return replace(self, kubelet_free_ratio=0.0, kubelet_image_gc_ratio=1.0)

    @property
    def cap_ratio(self) -> float:
        """The most of the disk that may be in use before the kubelet starts to act, less the gap."""
        acts_at_ratio = min(1 - self.kubelet_free_ratio, self.kubelet_image_gc_ratio)
        return max(0.0, round(acts_at_ratio - EVICTION_GAP_RATIO, 9))  # 0.85 - 0.05 is 0.7999… in floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What the cache holds and may hold, in bytes."""

    held_bytes: int
    high_bytes: int  # never more
    low_bytes: int  # shed down to here once above high

    @property
    def free_bytes(self) -> int:
        """What more may be brought; below zero: too much is held already."""
        return self.high_bytes - self.held_bytes


def room(disk: Disk, *, held_bytes: int) -> Room:
    """What a cache that holds so much may hold, when others use the rest of the disk as they do now."""
    foreign_bytes = max(0, disk.capacity_bytes - disk.free_bytes - held_bytes)
    high_ratio = min(disk.high_ratio, disk.cap_ratio)
    # The cap takes both marks down together: a low mark above the high one would shed nothing.
    low_ratio = max(0.0, high_ratio - (disk.high_ratio - disk.low_ratio))
    high_bytes = max(0, int(disk.capacity_bytes * high_ratio) - foreign_bytes)
    low_bytes = max(0, int(disk.capacity_bytes * low_ratio) - foreign_bytes)
    if disk.quota_bytes is not None:
        # A quota is a promise about this cache alone, so it may be used in full.
        high_bytes, low_bytes = min(high_bytes, disk.quota_bytes), min(low_bytes, disk.quota_bytes)
    return Room(held_bytes=held_bytes, high_bytes=high_bytes, low_bytes=low_bytes)
