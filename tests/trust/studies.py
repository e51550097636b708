"""What is counted in each simulation, and between which bounds it has to be.

Each study draws many experiments of known truth. A share that should be 5 % may differ from it by
four binomial standard errors; beyond that the statistics are wrong, or the luck of one in 16,000.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.bayes import Prior, posterior
from analysis.corrections import benjamini_hochberg, holm
from analysis.effects import compare
from analysis.estimates import Estimate, mean
from analysis.guardrail import Answer, Limit, Status, guard
from analysis.moments import Moments
from analysis.power import Design
from analysis.sample_ratio import sequential
from analysis.sequential import Tuning, compare_always
from analysis.verdict import NoVerdict
from tests.trust.kinds import KINDS, Kind, Values, known

LEVEL = 0.05


@dataclass(frozen=True)
class Figure:
    study: str
    subject: str
    seen: float
    least: float
    most: float

    @property
    def holds(self) -> bool:
        return self.least <= self.seen <= self.most


def false_alarms(kinds: Sequence[Kind], experiments: int, seed: int) -> Iterator[Figure]:
    """Fixed horizon, no effect: p-values below 0.05."""
    for kind in kinds:
        rng = np.random.default_rng(seed)
        below = 0
        for _ in range(experiments):
            units = int(rng.integers(300, 700))
            baseline, arm = kind.draw(rng, units, 0.0), kind.draw(rng, 500, 0.0)
            below += kind.compare(baseline, arm).p_value < LEVEL
        yield _share("false alarms, one look", kind.name, below, experiments, LEVEL)


def coverage(kinds: Sequence[Kind], experiments: int, seed: int) -> Iterator[Figure]:
    """With an effect: absolute intervals that miss it."""
    for kind in kinds:
        rng = np.random.default_rng(seed)
        missed = 0
        for _ in range(experiments):
            baseline, arm = kind.draw(rng, 500, 0.0), kind.draw(rng, 500, kind.effect)
            missed += kind.effect not in kind.compare(baseline, arm).absolute.interval
        yield _share("intervals that miss", kind.name, missed, experiments, LEVEL)


def relative_coverage(experiments: int, seed: int) -> Iterator[Figure]:
    """With a noisy baseline, where the delta method would be off: the relative effect is 50 %."""
    rng = np.random.default_rng(seed)
    missed = answered = 0
    for _ in range(experiments):
        baseline, arm = (mean(Moments.of(rng.normal(center, 4, 60))) for center in (3, 4.5))
        relative = known(compare(baseline, arm)).relative
        if not isinstance(relative, NoVerdict):
            answered += 1
            missed += 0.5 not in relative.interval
    yield _share("intervals that miss", "relative effect", missed, answered, LEVEL)


def looked_at_always(
    kinds: Sequence[Kind], experiments: int, looks: int, seed: int
) -> Iterator[Figure]:
    """No effect, a look after every batch of 100 units: p-values that ever are below 0.05.

    Once in the always-valid form, once in the one for a single look, to show what that would do.
    """
    for kind in kinds:
        rng = np.random.default_rng(seed)
        tuning = Tuning.for_units(looks * 100)
        ever = once = 0
        for _ in range(experiments):
            baseline, arm = (kind.draw(rng, looks * 50 + 50, 0.0) for _ in range(2))
            always = single = False
            for units in range(100, looks * 50 + 51, 50):
                pair = kind.estimates(baseline[:, :units], arm[:, :units])
                always |= known(compare_always(*pair, tuning)).p_value < LEVEL
                single |= known(compare(*pair)).p_value < LEVEL
            ever += always
            once += single
        yield _share("false alarms, ever, always-valid", kind.name, ever, experiments, LEVEL, low=0)
        yield Figure("(the same with the p-value of one look)", kind.name, once / experiments, 0, 1)


def unevenly_split(experiments: int, looks: int, seed: int) -> Iterator[Figure]:
    """The same with a tenth of the units in one arm, which meets rare or extreme values late."""
    draws: dict[str, Callable[[np.random.Generator, int], Values]] = {
        "1 % succeed, 90:10": lambda rng, units: (rng.random(units) < 0.01).astype(float),
        "log-normal, 90:10": lambda rng, units: rng.lognormal(0, 1.5, units),
    }
    for name, draw in draws.items():
        rng = np.random.default_rng(seed)
        tuning = Tuning.for_units(looks * 1_000)
        ever = 0
        for _ in range(experiments):
            large, small = draw(rng, looks * 900), draw(rng, looks * 100)
            ever += any(
                known(
                    compare_always(
                        mean(Moments.of(large[: 900 * at])),
                        mean(Moments.of(small[: 100 * at])),
                        tuning,
                    )
                ).p_value
                < LEVEL
                for at in range(1, looks + 1)
                if large[: 900 * at].any()
            )
        yield _share("false alarms, ever, always-valid", name, ever, experiments, LEVEL, low=0)


def false_breaches(experiments: int, looks: int, seed: int) -> Iterator[Figure]:
    """A guardrail of 5 %, harm of exactly 5 %, watched after every batch: it should not trip."""
    rng = np.random.default_rng(seed)
    tuning = Tuning.for_units(looks * 100)
    tripped = 0
    for _ in range(experiments):
        baseline, arm = (rng.gamma(2, scale, looks * 50 + 50) for scale in (1, 1.05))
        tripped += any(
            _status(mean(Moments.of(baseline[:units])), mean(Moments.of(arm[:units])), tuning)
            is Status.BREACHED
            for units in range(100, looks * 50 + 51, 50)
        )
    yield _share(
        "false alarms, ever, always-valid",
        "guardrail at its limit",
        tripped,
        experiments,
        LEVEL,
        low=0,
    )


def _status(baseline: Estimate, arm: Estimate, tuning: Tuning) -> Status:
    answer = known(guard(baseline, arm, Limit(0.05), tuning)).any_time
    return answer.status if isinstance(answer, Answer) else Status.OPEN


def less_variance(experiments: int, seed: int) -> Iterator[Figure]:
    """CUPED on data whose correlation with the past is known: the variance falls by its square."""
    (kind,) = (kind for kind in KINDS if kind.name == "mean with CUPED")
    rng = np.random.default_rng(seed)
    plain, adjusted = [], []
    for _ in range(experiments):
        baseline, arm = kind.draw(rng, 500, 0.0), kind.draw(rng, 500, kind.effect)
        plain.append(float(arm[0].mean() - baseline[0].mean()))
        first, second = kind.estimates(baseline, arm)
        adjusted.append(second.value - first.value)
    bias = float(np.mean(adjusted)) - kind.effect
    error = float(np.std(adjusted)) / math.sqrt(experiments)
    yield Figure("CUPED", "bias, in standard errors", bias / error, -4, 4)
    kept = float(np.var(adjusted) / np.var(plain))
    truth = 1 - (0.64 * 8) / (0.64 * 8 + 2.25)
    slack = 4 * math.sqrt(4 / experiments)
    yield Figure("CUPED", "variance that is left", kept, truth * (1 - slack), truth * (1 + slack))


def sample_ratios(experiments: int, seed: int) -> Iterator[Figure]:
    """A look after every 20 units, 400 times: sound experiments that ever are below the level."""
    rng = np.random.default_rng(seed)
    for weights in ([5000, 5000], [9000, 500, 500]):
        arrived = rng.multinomial(20, np.array(weights) / 10_000, (experiments, 400))
        seen = arrived.cumsum(axis=1)
        alarms = sum(
            any(known(sequential(units, weights)).p_value < LEVEL for units in one)
            for one in seen.tolist()
        )
        name = "sample ratio " + ":".join(str(weight // 100) for weight in weights)
        yield _share("false alarms, ever, always-valid", name, alarms, experiments, LEVEL, low=0)


def promised_power(experiments: int, seed: int) -> Iterator[Figure]:
    rng = np.random.default_rng(seed)
    design = Design(baseline_variance=4.0, arm_variance=9.0, share=0.3)
    units = 1_000
    effect = design.minimum_detectable_effect(units, power=0.8)
    seen = 0
    for _ in range(experiments):
        baseline, arm = rng.normal(5, 2, 700), rng.normal(5 + effect, 3, 300)
        seen += known(compare(mean(Moments.of(baseline)), mean(Moments.of(arm)))).p_value < LEVEL
    yield _share("power promised as 80 %", "mean, 30 % in the arm", seen, experiments, 0.8)


def families(experiments: int, seed: int) -> Iterator[Figure]:
    """Ten metrics, of which four have an effect: false alarms, by what each correction promises."""
    rng = np.random.default_rng(seed)
    any_false, false_share = 0, []
    for _ in range(experiments):
        p_values = rng.random(10)
        p_values[:4] = rng.beta(0.1, 5, 4)
        any_false += min(holm(list(p_values))[4:]) < LEVEL
        found = np.array(benjamini_hochberg(list(p_values))) < LEVEL
        false_share.append(found[4:].sum() / max(1, found.sum()))
    yield _share("families with a false alarm", "Holm", any_false, experiments, LEVEL, low=0)
    seen = float(np.mean(false_share)) * experiments
    yield _share("alarms that are false", "Benjamini-Hochberg", seen, experiments, LEVEL, low=0)


def beliefs(experiments: int, seed: int) -> Iterator[Figure]:
    """Effects drawn from the prior: credible intervals that miss, and chances that come true."""
    rng = np.random.default_rng(seed)
    prior = Prior(0.1, 0.3)
    missed, promised, better = 0, 0.0, 0
    for _ in range(experiments):
        effect = rng.normal(prior.mean, prior.deviation)
        baseline, arm = (mean(Moments.of(rng.normal(center, 2, 100))) for center in (0, effect))
        belief = known(posterior(baseline, arm, prior))
        missed += effect not in belief.interval
        promised += belief.chance_to_beat_baseline
        better += effect > 0
    yield _share(
        "credible intervals that miss", "effects from the prior", missed, experiments, LEVEL
    )
    chance = promised / experiments
    yield _share("arms that beat the baseline", "as promised", better, experiments, chance)


def all_studies(experiments: int, looks: int, seed: int) -> Iterator[Figure]:
    yield from false_alarms(KINDS, experiments, seed)
    yield from coverage(KINDS, experiments, seed)
    yield from relative_coverage(experiments, seed)
    yield from looked_at_always(KINDS, max(100, experiments // 4), looks, seed)
    yield from unevenly_split(max(100, experiments // 4), looks, seed)
    yield from false_breaches(max(100, experiments // 4), looks, seed)
    yield from sample_ratios(max(100, experiments // 4), seed)
    yield from less_variance(experiments, seed)
    yield from promised_power(experiments, seed)
    yield from families(experiments, seed)
    yield from beliefs(experiments, seed)


def _share(
    study: str, subject: str, seen: float, of: int, should: float, *, low: float | None = None
) -> Figure:
    slack = 4 * math.sqrt(should * (1 - should) / of)
    least = should - slack if low is None else low
    return Figure(study, subject, seen / of, least, should + slack)
