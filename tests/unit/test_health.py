from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from anabranch.definition_records import Document
from anabranch.definitions import Definition
from analysis.decision import GuardrailFinding
from analysis.estimates import Estimate, mean
from analysis.guardrail import Limit, guard
from analysis.health import (
    DeadLetters,
    Finding,
    Health,
    Name,
    Verdict,
    dead_letters,
    freshness,
    late_events,
    multiple_exposures,
)
from analysis.health_arrivals import Arrivals, expected_shares, loss_starts, sample_ratios
from analysis.health_effects import Lasting, Planned, guardrails, novelty, underpowered
from analysis.health_summary import Observed, data_health
from analysis.moments import JointMoments, Moments
from analysis.sequential import Tuning
from service.expected_shares import shares_by_version

FIRST_DAY = date(2026, 3, 2)
HALVES = {"control": 0.5, "warm": 0.5}


def definition(weights: tuple[int, ...], **fields: Any) -> Definition:
    variations = [{"key": f"v{n}", "weight": weight} for n, weight in enumerate(weights)]
    return Definition.model_validate({"key": "tone", "variations": variations, **fields})


def arrived(
    day: int, control: int, warm: int, *, segment: str = "en", version: int = 1
) -> Arrivals:
    units = {"control": control, "warm": warm}
    return Arrivals(version, FIRST_DAY + timedelta(days=day), segment, units)


def test_expected_shares_are_those_of_whole_buckets_when_coverage_cuts_one() -> None:
    shares = expected_shares(definition((3_333, 3_333, 3_334), coverage=100), datetime.now(UTC))
    assert shares == {"v0": 34 / 102, "v1": 34 / 102, "v2": 34 / 102}


def test_expected_shares_are_in_thousandths_when_the_hash_is_the_older_one() -> None:
    shares = expected_shares(definition((15, 9_985), hash_version=1), datetime.now(UTC))
    assert shares == {"v0": 2 / 1_000, "v1": 998 / 1_000}


def test_expected_shares_are_those_of_both_phases_when_one_is_opening() -> None:
    phases = [
        {"number": 1, "weights": (5_000, 5_000), "opened_at": "2026-03-01T00:00:00Z"},
        {"number": 2, "weights": (2_000, 8_000), "opened_at": "2026-03-02T00:00:00Z"},
    ]
    phases[1]["opening"] = True
    shares = expected_shares(definition((2_000, 8_000), phases=phases), datetime.now(UTC))
    assert shares == {"v0": 2 / 7, "v1": 5 / 7}


def test_expected_shares_are_the_weights_when_nobody_is_covered() -> None:
    shares = expected_shares(definition((2_000, 8_000), coverage=0), datetime.now(UTC))
    assert shares == {"v0": 0.2, "v1": 0.8}


def test_shares_are_those_at_the_end_of_each_version_when_a_ramp_goes_on_within_it() -> None:
    ramp = [{"at": "2026-03-02T00:00:00Z", "coverage": 100}]
    thirds = definition((3_333, 3_333, 3_334), coverage=0, ramp=ramp)
    days = (datetime(2026, 3, day, tzinfo=UTC) for day in (1, 3))
    history = [
        Document("tone", n, "running", text, "jo", int(at.timestamp() * 1000), "", n)
        for n, (text, at) in enumerate(
            zip((thirds.model_dump_json(), '{"of": "a later release"}'), days, strict=True), 1
        )
    ]
    shares = shares_by_version(history, datetime.now(UTC))
    assert shares == {1: {"v0": 34 / 102, "v1": 34 / 102, "v2": 34 / 102}}


def test_data_health_has_a_finding_of_each_kind() -> None:
    pair = lasting(0.3, 0.0)
    observed = Observed(
        arrivals=[arrived(0, 500, 510)],
        in_several=0,
        exposures=2_000,
        late=0,
        events=4_000,
        dead=DeadLetters(0, 0),
        lasting={"acts": {"control": pair.baseline, "warm": pair.arm}},
    )
    health = data_health(observed, {1: HALVES}, "control", 0.4)
    assert health.verdict is Verdict.WARNING
    assert [one.name for one in health.findings if one.verdict is not Verdict.OK] == [Name.NOVELTY]
    assert len(health.findings) == 6
    assert health.problems == ()


def test_sample_ratio_is_sound_when_phases_have_other_weights() -> None:
    seen = [arrived(0, 5_000, 5_020), arrived(1, 1_010, 4_000, version=2)]
    found = sample_ratios(seen, {1: HALVES, 2: {"control": 0.2, "warm": 0.8}})
    assert found.verdict is Verdict.OK


def test_sample_ratio_names_the_day_when_the_loss_starts_later() -> None:
    seen = [arrived(day, 1_000 + day, 1_000 - 2 * day) for day in range(6)]
    seen += [arrived(day, 1_000, 850) for day in range(6, 10)]
    found = sample_ratios(seen, {1: HALVES})
    assert found.verdict is Verdict.BAD
    assert found.figures["starts"] == "2026-03-08"
    assert found.figures["segment"] is None
    assert "2026-03-08" in found.sentence


def test_sample_ratio_names_the_segment_when_units_are_lost_in_one() -> None:
    seen = [arrived(day, 1_000, 1_000, segment="en") for day in range(5)]
    seen += [arrived(day, 1_000, 990, segment="fr") for day in range(5)]
    seen += [arrived(day, 400, 400 - 150 * (day > 1), segment="de") for day in range(5)]
    found = sample_ratios(seen, {1: HALVES})
    assert found.verdict is Verdict.BAD
    assert (found.figures["segment"], found.figures["starts"]) == ("de", "2026-03-04")


def test_sample_ratio_warns_when_only_the_test_for_a_single_look_finds_it() -> None:
    found = sample_ratios([arrived(0, 5_180, 4_820)], {1: HALVES})
    assert found.verdict is Verdict.WARNING
    assert not found.forbids_decision


def test_sample_ratio_leaves_out_and_counts_units_that_no_version_can_have_given() -> None:
    odd = Arrivals(1, FIRST_DAY, "en", {"control": 1_000, "warm": 1_001, "typo": 100})
    found = sample_ratios([odd, arrived(0, 3, 0, version=99)], {1: HALVES})
    assert found.verdict is Verdict.WARNING
    assert found.figures["unplanned_units"] == 103


@pytest.mark.parametrize(
    ("judged", "verdict"),
    [pytest.param(0, Verdict.BAD, id="all"), pytest.param(6, Verdict.WARNING, id="most")],
)
def test_sample_ratio_is_not_sound_when_no_version_is_known_that_units_came_by(
    judged: int, verdict: Verdict
) -> None:
    seen = [arrived(0, judged // 2, judged // 2), arrived(0, 900, 100, version=99)]
    found = sample_ratios(seen, {1: HALVES})
    assert found.verdict is verdict
    assert found.figures["unplanned_units"] == 1_000


def test_sample_ratio_says_that_nobody_came_when_there_are_no_units() -> None:
    found = sample_ratios([], {1: HALVES})
    assert (found.verdict, found.figures["p_value"]) == (Verdict.OK, None)


def test_sample_ratio_alarms_in_no_sound_experiment_when_it_is_looked_at_often() -> None:
    """Two phases, three locales, 20 days, 60 experiments at a level of 0.001."""
    random = np.random.default_rng(20_262)
    shares = {1: HALVES, 2: {"control": 0.1, "warm": 0.9}}
    for _ in range(60):
        seen: list[Arrivals] = []
        for day in range(20):
            version = 1 if day < 8 else 2
            for segment in ("en", "de", "fr"):
                control = int(random.binomial(200, shares[version]["control"]))
                seen.append(arrived(day, control, 200 - control, segment=segment, version=version))
            if day % 6 == 5:
                assert sample_ratios(seen, shares).verdict is not Verdict.BAD


def test_loss_starts_nowhere_when_nobody_came() -> None:
    assert loss_starts([], {1: HALVES}) is None


@pytest.mark.parametrize(
    ("finding", "verdict"),
    [
        pytest.param(multiple_exposures(10_000, 0), Verdict.OK, id="nobody in two"),
        pytest.param(multiple_exposures(50, 1), Verdict.OK, id="a single unit in two"),
        pytest.param(multiple_exposures(10_000, 50), Verdict.WARNING, id="some in two"),
        pytest.param(multiple_exposures(10_000, 200), Verdict.BAD, id="many in two"),
        pytest.param(late_events(0, 0), Verdict.OK, id="no events"),
        pytest.param(late_events(5, 10_000), Verdict.OK, id="a few late"),
        pytest.param(late_events(500, 10_000), Verdict.WARNING, id="many late"),
        pytest.param(late_events(5, 0), Verdict.WARNING, id="late of unknown"),
        pytest.param(dead_letters(DeadLetters(0, 0), 100), Verdict.OK, id="no dead"),
        pytest.param(dead_letters(DeadLetters(0, 7), 100), Verdict.WARNING, id="possibly dead"),
        pytest.param(dead_letters(DeadLetters(1, 0), 1_000), Verdict.WARNING, id="one dead"),
        pytest.param(dead_letters(DeadLetters(50, 0), 1_000), Verdict.BAD, id="many dead"),
        pytest.param(
            dead_letters(DeadLetters(0, 0, turns=50, turns_stored=1_000_000), 100),
            Verdict.WARNING,
            id="a few turns dead, more than of the exposures",
        ),
        pytest.param(
            dead_letters(DeadLetters(0, 0, turns=50, turns_stored=1_000), 1_000_000),
            Verdict.BAD,
            id="many turns dead",
        ),
        pytest.param(
            dead_letters(DeadLetters(0, 0, invites=1), 100), Verdict.WARNING, id="a dead invite"
        ),
        pytest.param(freshness(0.4), Verdict.OK, id="fresh"),
        pytest.param(freshness(200.0), Verdict.WARNING, id="behind"),
        pytest.param(freshness(7_200.0), Verdict.BAD, id="far behind"),
        pytest.param(freshness(None), Verdict.WARNING, id="unknown freshness"),
        pytest.param(freshness(None, 3), Verdict.WARNING, id="waiting for an unknown time"),
    ],
)
def test_finding_has_a_sentence_and_what_to_do(finding: Finding, verdict: Verdict) -> None:
    assert finding.verdict is verdict
    assert finding.sentence.endswith(".")
    assert bool(finding.what_to_do) == (verdict is not Verdict.OK)


def lasting(first: float, later: float, *, stays: float = 0.5, units: int = 5_000) -> Lasting:
    """The arm's relative effects, where activity itself falls to `stays` of its first days."""
    random = np.random.default_rng(7)

    def arm(factor_first: float, factor_later: float) -> JointMoments:
        busy = random.gamma(4, 2, units)
        return JointMoments.of(
            random.poisson(busy * stays * factor_later), random.poisson(busy * factor_first)
        )

    return Lasting("acts", "warm", arm(1, 1), arm(1 + first, 1 + later))


def test_novelty_warns_when_the_effect_of_the_first_days_is_gone_later() -> None:
    (found,) = novelty([lasting(0.3, 0.0)])
    assert found.verdict is Verdict.WARNING
    assert "fades" in found.sentence
    change, low, high = (found.figures[key] for key in ("change", "change_low", "change_high"))
    assert change == pytest.approx(-0.231, abs=0.03)
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert low < -0.231 < high < 0


def test_novelty_is_not_seen_when_units_come_less_often_in_all_variations() -> None:
    (found,) = novelty([lasting(0.3, 0.3, stays=0.2)])
    assert found.verdict is Verdict.OK


def test_novelty_is_not_judged_when_units_never_come_again() -> None:
    (found,) = novelty([lasting(0.3, 0.0, stays=0.001)])
    assert found.verdict is Verdict.OK
    assert found.figures["compared"] == 0


def test_underpowered_says_how_many_units_it_takes() -> None:
    wide = Estimate(500, 10.0, 400.0)
    (found,) = underpowered([Planned("acts", "warm", wide, wide, 2_000)])
    assert found.verdict is Verdict.WARNING
    needed = found.figures["units_needed"]
    assert isinstance(needed, int)
    (enough,) = underpowered([Planned("acts", "warm", wide, wide, needed)])
    assert enough.verdict is Verdict.OK


def test_guardrail_breach_is_bad_and_yet_forbids_no_decision() -> None:
    baseline, arm = Estimate(5_000, 10.0, 4.0), Estimate(5_000, 12.0, 4.0)
    guarded = guard(baseline, arm, Limit(0.05), Tuning.for_units(None))
    (found,) = guardrails([GuardrailFinding("turn_ms", "warm", guarded)], at_horizon=False)
    health = Health((found, multiple_exposures(100, 50)))
    assert found.verdict is Verdict.BAD
    assert health.verdict is Verdict.BAD
    assert health.problems == (health.of(Name.MULTIPLE_EXPOSURES)[0].sentence,)


def test_guardrail_within_its_limit_is_no_breach() -> None:
    same = mean(Moments.of(np.arange(200.0)))
    guarded = guard(same, same, Limit(0.5), Tuning.for_units(None))
    (found,) = guardrails([GuardrailFinding("turn_ms", "warm", guarded)], at_horizon=True)
    assert found.verdict is Verdict.OK
