from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from analysis.bayes import FLAT, Posterior, Prior, posterior, worth_one_unit
from analysis.effects import compare
from analysis.estimates import Estimate
from analysis.verdict import Comparison, NoVerdict, NoVerdictReason

BASELINE, ARM = Estimate(400, 10, 9), Estimate(300, 10.4, 12)


def believed(answer: Posterior | NoVerdict) -> Posterior:
    assert isinstance(answer, Posterior)
    return answer


@pytest.mark.parametrize("prior", [Prior(0, 0.2), Prior(-0.5, 0.1), Prior(3, 50)])
def test_posterior_is_prior_times_likelihood_as_integration_finds_it(prior: Prior) -> None:
    answer = believed(posterior(BASELINE, ARM, prior))
    error = math.sqrt(9 / 400 + 12 / 300)
    grid = np.linspace(-3, 4, 200_001)
    density = stats.norm.pdf(0.4, grid, error) * stats.norm.pdf(grid, prior.mean, prior.deviation)
    density /= integrate.trapezoid(density, grid)
    assert answer.mean == pytest.approx(integrate.trapezoid(density * grid, grid), rel=1e-6)
    better = integrate.trapezoid(density * (grid > 0), grid)
    assert answer.chance_to_beat_baseline == pytest.approx(better, abs=1e-4)
    for loss, side in ((answer.expected_loss, -1), (answer.expected_loss_of_baseline, 1)):
        exact = integrate.trapezoid(density * np.maximum(0, side * grid), grid)
        assert loss == pytest.approx(exact, rel=1e-6)


def test_posterior_of_a_flat_prior_is_the_confidence_interval_of_the_z_test() -> None:
    answer = believed(posterior(Estimate(10**7, 1, 4), Estimate(10**7, 1.001, 4), FLAT))
    once = compare(Estimate(10**7, 1, 4), Estimate(10**7, 1.001, 4))
    assert isinstance(once, Comparison)
    assert answer.interval.low == pytest.approx(once.absolute.interval.low, rel=1e-4)
    assert answer.chance_to_beat_baseline == pytest.approx(1 - once.p_value / 2, rel=1e-6)


def test_posterior_of_the_prior_by_default_moves_the_effect_by_one_part_in_the_units() -> None:
    answer = believed(posterior(Estimate(100, 0, 4), Estimate(100, 1, 4)))
    assert answer.prior == worth_one_unit(Estimate(100, 0, 4), Estimate(100, 1, 4))
    assert answer.mean == pytest.approx(100 / 101, rel=1e-12)


def test_posterior_turns_around_when_lower_is_better() -> None:
    up = believed(posterior(BASELINE, ARM))
    down = believed(posterior(BASELINE, ARM, higher_is_better=False))
    assert down.chance_to_beat_baseline == pytest.approx(1 - up.chance_to_beat_baseline)
    assert down.expected_loss == up.expected_loss_of_baseline
    assert down.interval == up.interval


@pytest.mark.parametrize("errors", [5, 10, 20, 30])
def test_posterior_keeps_digits_of_an_expected_loss_that_is_nearly_nothing(errors: int) -> None:
    answer = believed(posterior(Estimate(2, 0, 1), Estimate(2, errors, 1), FLAT))
    exact, _ = integrate.quad(
        lambda x: (x - errors) * stats.norm.pdf(x), errors, errors + 5, epsabs=0, epsrel=1e-12
    )
    assert answer.expected_loss == pytest.approx(exact, rel=1e-8)
    assert answer.expected_loss > 0


def test_posterior_has_no_verdict_when_nothing_varies_and_refuses_a_prior_without_width() -> None:
    answer = posterior(Estimate(100, 0, 0), Estimate(100, 0, 0))
    assert isinstance(answer, NoVerdict)
    assert answer.reason is NoVerdictReason.ZERO_VARIANCE
    with pytest.raises(ValueError, match="above zero"):
        Prior(0, 0)
