"""SQuAD's metrics, each value worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.squad import compute_exact, compute_f1, words


@pytest.mark.parametrize(
    ("gold", "predicted", "exact", "f1"),
    [
        ("The white kitten", "a white kitten!", 1, 1.0),  # articles, case and punctuation do not count
        ("white kitten", "kitten white", 0, 1.0),  # order counts for exact match only
        ("white", "the white kitten", 0, 2 * (1 / 2) * 1 / (1 / 2 + 1)),  # precision 1/2, recall 1: 2/3
        ("in the old barn", "barn", 0, 2 * 1 * (1 / 3) / (1 + 1 / 3)),  # precision 1, recall 1/3: 1/2
        ("no no yes", "no yes yes", 0, 2 / 3),  # two of three in common: a word counts as often as both have it
        ("orange", "farm", 0, 0.0),
        ("the", "an", 1, 1.0),  # nothing is left of either
        ("the", "barn", 0, 0.0),
        ("", "barn", 0, 0.0),
        ("theatre", "atre", 0, 0.0),  # an article inside a word is none
    ],
)
def test_known_values(gold: str, predicted: str, exact: int, f1: float) -> None:
    assert compute_exact(gold, predicted) == exact
    assert compute_f1(gold, predicted) == pytest.approx(f1)


TEXT = st.text("aTn hexy.,'", max_size=20)


@given(TEXT, TEXT)
def test_f1_is_symmetric_and_one_for_the_same_words(a: str, b: str) -> None:
    assert compute_f1(a, b) == pytest.approx(compute_f1(b, a))
    assert 0 <= compute_f1(a, b) <= 1
    if compute_exact(a, b):
        assert compute_f1(a, b) == 1
    assert words(" ".join(words(a))) == words(a)
