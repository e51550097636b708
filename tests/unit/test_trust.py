"""The simulations of `python -m tests.trust` in a short form: gross errors show in seconds."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.trust import studies
from tests.trust.decisions import decisions
from tests.trust.kinds import KINDS, Kind
from tests.trust.studies import Figure

SEED = 20_261


def kept(figures: Iterable[Figure]) -> bool:
    broken = [figure for figure in figures if not figure.holds]
    assert not broken, broken
    return True


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_p_values_are_below_a_twentieth_as_often_as_they_should_when_nothing_has_an_effect(
    kind: Kind,
) -> None:
    assert kept(studies.false_alarms([kind], 300, SEED))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_intervals_hold_the_effect_as_often_as_they_should(kind: Kind) -> None:
    assert kept(studies.coverage([kind], 300, SEED))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_always_valid_p_values_keep_their_level_when_looked_at_after_every_batch(
    kind: Kind,
) -> None:
    assert kept(studies.looked_at_always([kind], 60, 20, SEED))


def test_relative_intervals_hold_the_effect_when_the_baseline_is_noisy() -> None:
    assert kept(studies.relative_coverage(300, SEED))


def test_always_valid_p_values_keep_their_level_when_one_arm_is_small_and_events_are_rare() -> None:
    assert kept(studies.unevenly_split(80, 10, SEED))


def test_guardrails_are_not_breached_by_looking_often() -> None:
    assert kept(studies.false_breaches(100, 20, SEED))


def test_sequential_sample_ratio_keeps_its_level_when_looked_at_after_every_batch() -> None:
    assert kept(studies.sample_ratios(60, SEED))


def test_cuped_takes_variance_away_and_adds_no_bias() -> None:
    assert kept(studies.less_variance(400, SEED))


def test_power_is_as_promised() -> None:
    assert kept(studies.promised_power(400, SEED))


def test_families_have_no_more_false_alarms_than_their_correction_promises() -> None:
    assert kept(studies.families(400, SEED))


def test_beliefs_come_true_as_often_as_they_say() -> None:
    assert kept(studies.beliefs(400, SEED))


def test_decisions_are_seldom_wrong_and_soon_right_when_asked_for_after_every_batch() -> None:
    assert kept(decisions(40, SEED))
