"""Which step a number falls on, found with a guide."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from simulations.traces.lengths import Lengths
from simulations.traces.stairs import CELLS, Stairs

BELOW_1 = st.floats(0.0, 1.0, exclude_max=True)


@given(
    edges=st.lists(BELOW_1 | st.integers(0, CELLS).map(lambda cell: cell / CELLS), min_size=1, max_size=40).map(sorted),
    numbers=st.lists(BELOW_1, max_size=20),
)
def test_a_guide_finds_the_same_step_as_a_search(edges: list[float], numbers: list[float]) -> None:
    stairs = np.array(edges)
    asked = np.array([*numbers, *[edge for edge in edges if edge < 1.0]])

    found = Stairs.of(stairs).find(asked)

    assert found.tolist() == np.searchsorted(stairs, asked, side="right").tolist()


def test_lengths_are_drawn_to_the_same_numbers_as_with_numpys_own_choice() -> None:
    rng, plain = np.random.default_rng(3), np.random.default_rng(3)
    weights = np.array([0.0, 3.0, 1e-9, 2.0, 0.0])
    edges, probabilities = np.array([1.0, 10.0, 20.0, 40.0, 80.0, 160.0]), np.array([0.0, 0.5, 0.99, 1.0])
    quantiles = np.sort(plain.random((5, 4)) * 100.0 + 1.0, axis=1)
    rng.random((5, 4))
    lengths = Lengths(
        prompt_edges=edges, weights=weights / 5.0, output_probabilities=probabilities, output_quantiles=quantiles
    )

    prompts, outputs = lengths.draw_mixed(rng, weights, 1000)

    bins = plain.choice(5, 1000, p=weights / weights.sum())
    drawn_prompts = edges[bins] + (edges[bins + 1] - edges[bins]) * plain.random(1000)
    at = plain.random(1000)
    drawn_outputs = [np.interp(share, probabilities, quantiles[row]) for share, row in zip(at, bins, strict=True)]
    assert prompts.tolist() == np.rint(drawn_prompts).astype(int).tolist()
    assert outputs.tolist() == np.rint(drawn_outputs).astype(int).tolist()
