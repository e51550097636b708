"""Simulated traffic has the effects that it says it has."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from itertools import islice
from statistics import fmean, variance

import pytest

from anabranch import Event, Exposure, Invite, Outcome, TurnMetric
from service.pacing import TokenBucket
from service.traffic import (
    BASE_COMPLETION,
    COMPLETION_EFFECT,
    EXPERIMENTS,
    HINT_BUDGET,
    K_FACTOR,
    LATE_SHARE,
    NPC_TONE,
    OUTPUT_TOKENS_EFFECT,
    TURN_MS_EFFECT,
    Traffic,
)

START = 1_767_225_600_000
RATE = 2_000.0
COUNT = 100_000


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return list(islice(Traffic(7, START, RATE).events(), COUNT))


def unit_means(
    events: list[Event], experiment: str, value: Callable[[TurnMetric], float]
) -> dict[str, list[float]]:
    """The mean of every unit, by variation: turns of one unit are not independent."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if isinstance(event, TurnMetric):
            for ref in event.exposures:
                if ref.experiment == experiment:
                    found[ref.variation, ref.unit].append(value(event))
    means: dict[str, list[float]] = defaultdict(list)
    for (variation, _), values in found.items():
        means[variation].append(fmean(values))
    return means


def relative_effect(treated: list[float], control: list[float]) -> tuple[float, float]:
    """Of the means, with its standard error."""
    ratio = fmean(treated) / fmean(control)
    error = ratio * math.sqrt(sum(variance(v) / len(v) / fmean(v) ** 2 for v in (treated, control)))
    return ratio, error


def test_every_event_is_good_by_its_schema(events: list[Event]) -> None:
    now = START + int(COUNT * 1000 / RATE)
    assert {event.problem(now) for event in events} == {None}


def test_traffic_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    def first(seed: int) -> list[Event]:
        return list(islice(Traffic(seed, START, RATE).events(), 2_000))

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_event_times_follow_the_rate_and_the_stated_share_is_late(events: list[Event]) -> None:
    behind = [
        START + int(number * 1000 / RATE) - event.ts
        for number, event in enumerate(events)
        if isinstance(event, TurnMetric)
    ]
    assert min(behind) >= 0
    late = sum(lag > 2_000 for lag in behind) / len(behind)
    assert late == pytest.approx(LATE_SHARE, abs=0.003)


def test_a_turn_comes_after_the_exposures_that_it_names(events: list[Event]) -> None:
    exposed: set[tuple[str, str, str]] = set()
    turns = 0
    for event in events:
        if isinstance(event, Exposure):
            exposed.add((event.experiment, event.variation, event.unit))
        elif isinstance(event, TurnMetric):
            turns += 1
            assert {ref.experiment for ref in event.exposures} == set(EXPERIMENTS)
            assert {(r.experiment, r.variation, r.unit) for r in event.exposures} <= exposed
    assert turns > COUNT * 0.6


@pytest.mark.parametrize(
    ("value", "effect"),
    [
        pytest.param(lambda turn: turn.output_tokens, OUTPUT_TOKENS_EFFECT, id="output_tokens"),
        pytest.param(lambda turn: turn.turn_ms, TURN_MS_EFFECT, id="turn_ms"),
        pytest.param(lambda turn: turn.bundle_tokens, 1.0, id="bundle_tokens"),
    ],
)
def test_warm_has_its_effect_within_the_standard_error(
    events: list[Event], value: Callable[[TurnMetric], float], effect: float
) -> None:
    means = unit_means(events, NPC_TONE, value)
    ratio, error = relative_effect(means["warm"], means["control"])
    assert error < 0.02
    assert abs(ratio - effect) < 3 * error


def test_hint_budget_has_no_effect(events: list[Event]) -> None:
    means = unit_means(events, HINT_BUDGET, lambda turn: turn.output_tokens)
    ratio, error = relative_effect(means["more"], means["control"])
    assert abs(ratio - 1) < 3 * error


def test_warm_sessions_complete_more_often(events: list[Event]) -> None:
    warm = {e.unit: e.variation == "warm" for e in events if isinstance(e, Exposure)}
    completed: dict[bool, list[float]] = defaultdict(list)
    for event in events:
        if isinstance(event, Outcome):
            completed[warm[event.unit]].append(event.values["completed"])
    for is_warm, chance in ((False, BASE_COMPLETION), (True, BASE_COMPLETION * COMPLETION_EFFECT)):
        error = math.sqrt(chance * (1 - chance) / len(completed[is_warm]))
        assert fmean(completed[is_warm]) == pytest.approx(chance, abs=3 * error)


def test_growth_loop_has_its_k_factor(events: list[Event]) -> None:
    # Those who met the end of a first session early enough for their invitees to have joined.
    player_of = {e.session: e.player for e in events if isinstance(e, TurnMetric)}
    ended = START + int(COUNT * 1000 / RATE) - 30_000
    cohort = {player_of[e.unit] for e in events if isinstance(e, Outcome) and e.ts < ended}
    joined = [e for e in events if isinstance(e, Invite) and e.kind == "joined"]
    per_player = sum(e.inviter in cohort for e in joined) / len(cohort)
    assert per_player == pytest.approx(K_FACTOR, abs=3 * math.sqrt(K_FACTOR / len(cohort)))
    sent = {e.invite_id for e in events if isinstance(e, Invite) and e.kind == "sent"}
    assert {e.invite_id for e in joined} <= sent
    assert all(e.invitee for e in joined)


def test_an_experiment_left_out_is_neither_met_nor_felt() -> None:
    events = list(islice(Traffic(7, START, RATE, (HINT_BUDGET,)).events(), 2_000))
    met = {e.experiment for e in events if isinstance(e, Exposure)}
    assert met == {HINT_BUDGET}


def test_bucket_gives_its_rate_however_it_is_asked() -> None:
    bucket = TokenBucket(rate=1000, started=0.0)
    assert sum(bucket.take(step * 0.0137) for step in range(1, 1001)) == pytest.approx(
        13_700, abs=1
    )
    assert bucket.missed == 0


def test_bucket_does_not_flood_after_a_stall_and_says_what_it_missed() -> None:
    bucket = TokenBucket(rate=1000, started=0.0)
    assert bucket.take(10.0) == 1000
    assert bucket.missed == 9000
    assert bucket.take(10.5) == 500


def test_bucket_waits_for_a_whole_token_when_the_rate_is_slow() -> None:
    bucket = TokenBucket(rate=0.5, started=0.0)
    assert [bucket.take(float(second)) for second in range(1, 7)] == [0, 1, 0, 1, 0, 1]
