"""Runs in the environment of gbstats, away from ours: cases in as JSON, its answers out as JSON.

Imports nothing of the project: the two environments have different versions of numpy.
"""

# mypy: ignore-errors

from __future__ import annotations

import json
import sys
import warnings

warnings.simplefilter("ignore")

from gbstats.bayesian.tests import EffectBayesianABTest, EffectBayesianConfig  # noqa: E402
from gbstats.frequentist.tests import (  # noqa: E402
    FrequentistConfig,
    SequentialConfig,
    SequentialTwoSidedTTest,
    TwoSidedTTest,
)
from gbstats.models.statistics import (  # noqa: E402
    QuantileClusteredStatistic,
    RatioStatistic,
    RegressionAdjustedStatistic,
    SampleMeanStatistic,
)


def mean(sums):
    return SampleMeanStatistic(n=sums["units"], sum=sums["y"], sum_squares=sums["yy"])


def statistic(kind, sums):
    if kind == "mean":
        return mean(sums)
    other = SampleMeanStatistic(n=sums["units"], sum=sums["x"], sum_squares=sums["xx"])
    if kind == "ratio":
        return RatioStatistic(sums["units"], mean(sums), other, sums["xy"])
    if kind == "cuped":
        return RegressionAdjustedStatistic(sums["units"], mean(sums), other, sums["xy"], 0.0)
    return QuantileClusteredStatistic(
        n=int(sums["x"]),
        n_star=int(sums["x"]),
        nu=0.75,
        quantile_hat=0.0,
        quantile_lower=0.0,
        quantile_upper=0.0,
        main_sum=sums["y"],
        main_sum_squares=sums["yy"],
        denominator_sum=sums["x"],
        denominator_sum_squares=sums["xx"],
        main_denominator_sum_product=sums["xy"],
        n_clusters=sums["units"],
    )


def answers(case):
    arms = [statistic(case["kind"], sums) for sums in case["arms"]]
    if case["kind"] == "quantile":
        return {"variance of share": float(arms[0].get_cluster_variance)}
    once = TwoSidedTTest(*arms, FrequentistConfig(difference_type="absolute"))
    relative = TwoSidedTTest(*arms, FrequentistConfig(difference_type="relative"))
    tuning = {"sequential_tuning_parameter": case["planned"]}
    always = SequentialTwoSidedTTest(*arms, SequentialConfig(difference_type="absolute", **tuning))
    belief = EffectBayesianABTest(
        *arms, EffectBayesianConfig(difference_type="absolute")
    ).compute_result()
    found = {
        "effect": once.point_estimate,
        "degrees": once.dof,
        "p_value": once.p_value,
        "low": once.confidence_interval[0],
        "high": once.confidence_interval[1],
        "relative": relative.point_estimate,
        "rho_squared": always.rho**2,
        "always p_value": always.p_value,
        "always low": always.confidence_interval[0],
        "always high": always.confidence_interval[1],
        "chance to beat": belief.chance_to_win,
        "expected loss": belief.risk[1],
    }
    if case["kind"] == "cuped":
        found["theta"] = once.stat_a.theta
    else:
        critical = relative.confidence_interval
        found["relative degrees"] = relative.dof
        found["relative low"], found["relative high"] = critical
    return {key: float(value) for key, value in found.items()}


if __name__ == "__main__":
    json.dump([answers(case) for case in json.load(sys.stdin)], sys.stdout)
