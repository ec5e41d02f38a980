"""KV blocks: shared by name, evicted in the order of freeing, never lost."""

from simulations.replica.blocks import BlockPool


def named_pool(names: list[str], total: int) -> tuple[BlockPool, list[int]]:
    pool = BlockPool(total)
    blocks = pool.take(len(names))
    for block, name in zip(blocks, names, strict=True):
        pool.name(block, name)
    return pool, blocks


def test_a_freed_block_keeps_its_name_until_it_is_taken_for_something_else() -> None:
    pool, blocks = named_pool(["a", "b"], total=3)

    pool.release(blocks)

    assert pool.free == 3
    assert pool.find(["a", "b"]) == blocks


def test_only_an_unbroken_beginning_is_found() -> None:
    pool, blocks = named_pool(["a", "b", "c"], total=3)

    assert pool.find(["a", "x", "c"]) == blocks[:1]
    assert pool.find(["x", "b"]) == []


def test_blocks_never_used_go_first_then_the_tail_of_what_was_freed() -> None:
    pool, (first, second) = named_pool(["a", "b"], total=3)
    pool.release([first, second])

    pool.take(2)

    assert pool.find(["a"]) == [first]  # the head of the sequence is evicted last
    assert pool.find(["b"]) == []


def test_a_shared_block_is_free_only_when_its_last_user_is_done() -> None:
    pool, blocks = named_pool(["a"], total=1)
    pool.share(blocks)

    pool.release(blocks)
    free_after_one = pool.free
    pool.release(blocks)

    assert (free_after_one, pool.free) == (0, 1)


def test_sharing_a_free_block_takes_it_out_of_the_free_ones() -> None:
    pool, blocks = named_pool(["a"], total=2)
    pool.release(blocks)

    free_among = pool.free_among(blocks)
    pool.share(blocks)

    assert (free_among, pool.free_among(blocks), pool.free) == (1, 0, 1)


def test_blocks_without_a_name_are_taken_before_any_that_could_be_found_again() -> None:
    pool = BlockPool(3)
    named, nameless, fresh = pool.take(3)
    pool.name(named, "a")
    pool.release([named])
    pool.release([fresh, nameless])

    assert set(pool.take(2)) == {nameless, fresh}
    assert pool.find(["a"]) == [named]


def test_of_two_blocks_with_equal_content_the_second_is_found_when_the_first_is_gone() -> None:
    pool = BlockPool(2)
    first, second = pool.take(2)
    pool.name(first, "a")
    pool.name(second, "a")
    assert pool.find(["a"]) == [first]

    pool.release([first])
    pool.take(1)

    assert pool.find(["a"]) == [second]
