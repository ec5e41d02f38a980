"""What is hashed already goes past the page cache, what is read again stays in it; every byte where it belongs."""

import os
from pathlib import Path

import pytest

from cacheops.open_part import ALIGN_BYTES, OpenPart, aligned_buffer
from cacheops.page_cache import absent_ranges

SIZE_BYTES = 256 * ALIGN_BYTES


def reserved(folder: Path) -> OpenPart:
    part = OpenPart(folder / "part", os.O_CREAT)
    os.posix_fallocate(part.fd, 0, SIZE_BYTES)
    return part


def cached_bytes(part: OpenPart) -> int:
    return SIZE_BYTES - sum(stop - start for start, stop in absent_ranges(part.fd, 0, SIZE_BYTES))


def test_only_what_is_read_again_stays_in_the_page_cache(tmp_path: Path) -> None:
    part, buffer = reserved(tmp_path), aligned_buffer(SIZE_BYTES // 2)
    buffer[:] = os.urandom(len(buffer))

    part.write(buffer, 0, is_read_again=False)
    past = cached_bytes(part)
    part.write(buffer, SIZE_BYTES // 2, is_read_again=True)
    through = cached_bytes(part)
    part.close()

    if past:
        pytest.skip(f"the file system of {tmp_path} writes nothing past the page cache")
    assert through == SIZE_BYTES // 2
    assert (tmp_path / "part").read_bytes() == bytes(buffer) * 2


@pytest.mark.parametrize(
    ("position", "size_bytes"),
    [
        pytest.param(0, 3 * ALIGN_BYTES, id="aligned"),
        pytest.param(0, ALIGN_BYTES - 1, id="less than a block"),
        pytest.param(0, 2 * ALIGN_BYTES + 7, id="a crooked end"),
        pytest.param(5, 2 * ALIGN_BYTES, id="a crooked start"),
        pytest.param(5, 2 * ALIGN_BYTES - 5, id="from crooked to aligned"),
    ],
)
def test_every_byte_lands_where_it_belongs(tmp_path: Path, position: int, size_bytes: int) -> None:
    part, buffer = reserved(tmp_path), aligned_buffer(size_bytes)
    buffer[:] = os.urandom(size_bytes)

    part.write(buffer, position, is_read_again=False)
    part.close()

    written = (tmp_path / "part").read_bytes()
    assert written == bytes(position) + bytes(buffer) + bytes(SIZE_BYTES - position - size_bytes)


def test_memory_that_a_disk_cannot_take_is_written_all_the_same(tmp_path: Path) -> None:
    part, data = reserved(tmp_path), os.urandom(2 * ALIGN_BYTES)
    crooked = aligned_buffer(3 * ALIGN_BYTES)[7 : 7 + len(data)]
    crooked[:] = data

    part.write(crooked, 0, is_read_again=False)
    part.close()

    assert (tmp_path / "part").read_bytes()[: len(data)] == data


def test_a_full_disk_is_told_as_the_system_says_it() -> None:
    part = OpenPart(Path("/dev/full"), 0)

    with pytest.raises(OSError, match="No space left"):
        part.write(aligned_buffer(ALIGN_BYTES), 0, is_read_again=False)

    part.close()
