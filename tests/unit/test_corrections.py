from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from analysis.corrections import Correction, Family, Question, adjusted, correct, holm

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=30)
QUESTIONS = {
    Question("turn_ms", "warm"): 0.01,
    Question("turn_ms", "cold"): 0.02,
    Question("retries", "warm"): 0.03,
    Question("turn_ms", "warm", "en"): 0.04,
}


@pytest.mark.parametrize("size", [1, 2, 5, 30])
def test_holm_is_that_of_statsmodels(size: int) -> None:
    """Once for each size: statsmodels takes tenths of a second for it."""
    rng = np.random.default_rng(size)
    p_values = np.round(rng.beta(0.3, 2, size), 2).tolist()
    theirs = multipletests(p_values, method="holm")[1]
    assert correct(p_values, Correction.HOLM) == pytest.approx(list(theirs), rel=1e-9)


@settings(deadline=None)
@given(P_VALUES)
def test_holm_is_what_its_definition_says(p_values: list[float]) -> None:
    size = len(p_values)
    order = sorted(range(size), key=p_values.__getitem__)
    for rank, index in enumerate(order):
        scaled = [(size - at) * p_values[order[at]] for at in range(rank + 1)]
        assert holm(p_values)[index] == min(1, max(scaled))


@settings(deadline=None)
@given(P_VALUES)
def test_benjamini_hochberg_is_that_of_statsmodels(p_values: list[float]) -> None:
    theirs = multipletests(p_values, method="fdr_bh")[1]
    assert correct(p_values, Correction.BENJAMINI_HOCHBERG) == pytest.approx(list(theirs), rel=1e-9)


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        (Family.METRICS, [0.02, 0.02, 0.03, 0.04]),
        (Family.VARIATIONS, [0.02, 0.02, 0.03, 0.04]),
        (Family.SEGMENTS, [0.02, 0.02, 0.03, 0.04]),
        (Family.ALL, [0.04, 0.06, 0.06, 0.06]),
    ],
)
def test_adjusted_corrects_within_the_family_that_was_chosen(
    family: Family, expected: list[float]
) -> None:
    answer = adjusted(QUESTIONS, family, Correction.HOLM)
    assert list(answer) == list(QUESTIONS)
    assert list(answer.values()) == pytest.approx(expected)


def test_adjusted_without_a_correction_changes_nothing() -> None:
    assert adjusted(QUESTIONS, Family.ALL, Correction.NONE) == QUESTIONS
    assert adjusted({}, Family.ALL, Correction.HOLM) == {}


@pytest.mark.parametrize("wrong", [-0.1, 1.5, float("nan")])
def test_correct_refuses_what_is_no_p_value(wrong: float) -> None:
    with pytest.raises(ValueError, match="leave out tests without a verdict"):
        correct([0.5, wrong], Correction.HOLM)
