"""What a verb makes of an experiment, and where it is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from anabranch.definitions import Definition, Phase, as_json
from anabranch.plans import Status
from anabranch.reading import DefinitionError
from service.experiment_states import ChangeRefusedError
from service.experiments import (
    Change,
    Standing,
    amended,
    archived,
    cloned,
    created,
    deleted,
    replaced,
    rolled_back,
    scheduled,
    started,
    stopped,
    unarchived,
)

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
EARLIER, LATER = (NOW - timedelta(hours=1)).isoformat(), (NOW + timedelta(hours=1)).isoformat()
HALVES = [{"key": "control", "weight": 5_000}, {"key": "warm", "weight": 5_000}]


def standing(
    status: Status = Status.DRAFT, /, *, has_run: bool | None = None, **fields: Any
) -> Standing:
    definition = Definition.model_validate({"key": "tone", "variations": HALVES, **fields})
    ran = status in (Status.RUNNING, Status.STOPPED) if has_run is None else has_run
    return Standing("tone", 3, status, as_json(definition), definition, ran)


VERBS: dict[str, Callable[[Standing], Change]] = {
    "change": lambda now: amended(now, {"name": "other"}, NOW),
    "start": lambda now: started(now, NOW),
    "stop": stopped,
    "schedule": lambda now: scheduled(now, {"starts_at": LATER}, NOW),
    "archive": archived,
    "unarchive": unarchived,
    "delete": deleted,
}


@pytest.mark.parametrize(
    ("status", "allowed"),
    [
        (
            Status.DRAFT,
            {
                "change": "draft",
                "start": "running",
                "schedule": "scheduled",
                "archive": "archived",
                "delete": "deleted",
            },
        ),
        (
            Status.SCHEDULED,
            {
                "change": "scheduled",
                "start": "running",
                "schedule": "scheduled",
                "stop": "stopped",
            },
        ),
        (Status.RUNNING, {"change": "running", "stop": "stopped"}),
        (
            Status.STOPPED,
            {
                "change": "stopped",
                "start": "running",
                "schedule": "scheduled",
                "archive": "archived",
            },
        ),
        (Status.ARCHIVED, {"unarchive": "draft", "delete": "deleted"}),
    ],
)
def test_verb_leads_where_the_table_says_or_is_refused(
    status: Status, allowed: dict[str, str]
) -> None:
    for verb, decide in VERBS.items():
        if verb in allowed:
            assert decide(standing(status)).status == allowed[verb], verb
        else:
            with pytest.raises(ChangeRefusedError, match=r"^tone (is|has run)") as refused:
                decide(standing(status))
            said = str(refused.value)
            assert status.value in said or "has run" in said
            assert any(word in said for word in ("already", "first", "then", "nothing")), said


def test_created_experiment_is_a_draft_with_every_field() -> None:
    definition, change = created({"key": "tone", "variations": HALVES, "status": "draft"})
    assert (definition.key, change.status) == ("tone", Status.DRAFT)
    assert change.definition["coverage"] == 10_000
    assert set(change.definition) == set(Definition.model_fields)


@pytest.mark.parametrize("field", ["version", "changed_by", "status", "phases", "warnings"])
def test_created_experiment_cannot_say_what_the_system_keeps(field: str) -> None:
    with pytest.raises(DefinitionError, match=f"{field}: is kept by the system"):
        created({"key": "tone", "variations": HALVES, field: ["running"]})


def test_patch_replaces_lists_and_merges_objects() -> None:
    now = standing(tags=["a", "b"], metrics={"primary": ["turn_ms"], "secondary": ["acts"]})
    change = amended(now, {"tags": ["c"], "metrics": {"primary": ["acts_2"]}}, NOW)
    assert change.definition["tags"] == ["c"]
    assert change.definition["metrics"]["primary"] == ["acts_2"]
    assert change.definition["metrics"]["secondary"] == ["acts"]


def test_patch_of_null_takes_a_field_back_to_its_default() -> None:
    change = amended(standing(coverage=10, owner="jo"), {"coverage": None, "owner": None}, NOW)
    assert (change.definition["coverage"], change.definition["owner"]) == (10_000, "")


def test_answer_that_is_sent_back_changes_nothing() -> None:
    now = standing(Status.RUNNING)._replace(shown={"changed_by": "jo", "comment": ""})
    answer = {**now.raw, "status": "running", "version": 3, "changed_by": "jo", "comment": ""}
    assert amended(now, answer, NOW) == Change(Status.RUNNING, now.raw)


def test_patch_cannot_start_an_experiment_or_give_it_another_key() -> None:
    with pytest.raises(DefinitionError, match="status: is kept by the system: start, stop"):
        amended(standing(), {"status": "running"}, NOW)
    with pytest.raises(DefinitionError, match="key: is other, and cannot change: clone tone"):
        amended(standing(), {"key": "other"}, NOW)


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        ({"unit": "player"}, "unit cannot change from session to player"),
        ({"seed": "s"}, "seed cannot change from tone to s"),
        ({"hash_version": 1}, "hash_version cannot change from 2 to 1"),
        (
            {"variations": [HALVES[0], {"key": "cold", "weight": 5_000}]},
            "the variation warm cannot be removed or renamed",
        ),
        ({"variations": HALVES[::-1]}, "the variations must begin with control, warm"),
        ({"starts_at": LATER}, "starts_at lies ahead"),
    ],
)
def test_running_experiment_refuses_what_would_move_units_and_says_what_to_do(
    patch: dict[str, Any], said: str
) -> None:
    with pytest.raises(ChangeRefusedError, match=said) as refused:
        amended(standing(Status.RUNNING), patch, NOW)
    assert "stop" in str(refused.value)
    for status in (Status.DRAFT, Status.STOPPED):
        assert amended(standing(status), patch, NOW).status is status


def test_seed_that_is_written_out_is_no_change_of_it() -> None:
    assert amended(standing(Status.RUNNING), {"seed": "tone"}, NOW).definition["seed"] == "tone"


@pytest.mark.parametrize(
    "patch",
    [
        {"coverage": 100},
        {"ramp": [{"at": LATER, "coverage": 5_000}]},
        {"name": "x", "metrics": {"primary": ["turn_ms"]}},
        {"targeting": {"locale": "en"}},
        {"params": {"max_acts": 3}},
        {"stops_at": LATER},
    ],
    ids=lambda patch: next(iter(patch)),
)
def test_running_experiment_takes_what_moves_nobody_without_a_phase(patch: dict[str, Any]) -> None:
    change = amended(standing(Status.RUNNING), patch, NOW)
    assert (change.status, change.phase) == (Status.RUNNING, None)


def test_new_weights_open_a_phase_once_units_may_have_met_the_old_ones() -> None:
    weights = {"variations": [{**HALVES[0], "weight": 1_000}, {**HALVES[1], "weight": 9_000}]}
    for status in (Status.RUNNING, Status.STOPPED):
        phase = amended(standing(status), weights, NOW).phase
        assert phase is not None
        assert phase.weights == (1_000, 9_000)
    assert amended(standing(), weights, NOW).phase is None


def test_variation_added_behind_the_others_opens_a_phase() -> None:
    thirds = [{**HALVES[0], "weight": 4_000}, {**HALVES[1], "weight": 4_000}]
    phases = [Phase(number=1, weights=(5_000, 5_000), opened_at=NOW)]
    now = standing(Status.RUNNING, phases=phases)
    wanted = {"variations": [*thirds, {"key": "cold", "weight": 2_000}]}
    phase = amended(now, wanted, NOW).phase
    assert phase is not None
    assert phase.weights == (4_000, 4_000, 2_000)


def test_stopped_experiment_with_phases_keeps_what_its_units_go_by() -> None:
    phases = [Phase(number=1, weights=(5_000, 5_000), opened_at=NOW)]
    with pytest.raises(ChangeRefusedError, match="keep what its 1 phases gave them: clone it"):
        amended(standing(Status.STOPPED, phases=phases), {"seed": "other"}, NOW)


def test_phases_stay_when_something_else_changes() -> None:
    phases = [Phase(number=1, weights=(5_000, 5_000), opened_at=NOW)]
    change = amended(standing(Status.RUNNING, phases=phases), {"name": "x"}, NOW)
    assert len(change.definition["phases"]) == 1


def test_whole_definition_takes_defaults_for_what_it_leaves_out() -> None:
    now = standing(Status.RUNNING, coverage=100, owner="jo")
    change = replaced(now, {"key": "tone", "variations": HALVES, "name": "n"}, NOW)
    assert (change.definition["coverage"], change.definition["owner"]) == (10_000, "")
    assert (change.definition["name"], change.status) == ("n", Status.RUNNING)


def test_draft_whose_start_lies_ahead_is_scheduled_and_starts_now_when_started_again() -> None:
    assert started(standing(starts_at=LATER), NOW).status is Status.SCHEDULED
    now = started(standing(Status.SCHEDULED, starts_at=LATER), NOW)
    assert now.status is Status.RUNNING
    assert Definition.model_validate(now.definition).starts_at == NOW
    assert started(standing(starts_at=EARLIER), NOW).status is Status.RUNNING


def test_start_after_the_stop_is_refused() -> None:
    with pytest.raises(ChangeRefusedError, match="was to stop at 2026-11-21 11:00 UTC"):
        started(standing(Status.STOPPED, stops_at=EARLIER), NOW)


def test_single_variation_starts_only_as_a_flag() -> None:
    alone = standing(variations=[{"key": "on", "weight": 10_000}])
    with pytest.raises(ChangeRefusedError, match="nothing to compare"):
        started(alone, NOW)
    assert started(alone, NOW, as_flag=True).status is Status.RUNNING


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "starts_at: is missing"),
        ({"starts_at": EARLIER}, "starts_at: has passed"),
        ({"starts_at": LATER, "stops_at": EARLIER}, "must come after starts_at"),
        ({"starts_at": "soon"}, "starts_at: is 'soon', which is no time"),
    ],
)
def test_schedule_needs_a_time_ahead(given: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        scheduled(standing(), given, NOW)


def test_unarchived_experiment_is_stopped_where_it_has_run() -> None:
    assert unarchived(standing(Status.ARCHIVED, has_run=True)).status is Status.STOPPED


def test_clone_has_no_times_and_a_seed_of_its_own() -> None:
    now = standing(
        Status.RUNNING,
        seed="old",
        starts_at=EARLIER,
        ramp=[{"at": EARLIER, "coverage": 10}],
        phases=[Phase(number=1, weights=(5_000, 5_000), opened_at=NOW)],
        params={"max_acts": 3},
    )
    clone, change = cloned(now, "tone_2", None)
    assert (clone.key, clone.hash_seed, clone.starts_at) == ("tone_2", "tone_2", None)
    assert (clone.ramp, clone.phases, clone.params) == ((), (), {"max_acts": 3})
    assert change.status is Status.DRAFT
    for key in ("tone", None, 3, "a:b"):
        with pytest.raises(DefinitionError, match=r"^key"):
            cloned(now, key, None)


def test_rollback_keeps_whether_it_runs_and_what_running_forbids() -> None:
    earlier = standing(name="before").raw
    back = rolled_back(standing(Status.RUNNING, name="after"), earlier, NOW)
    assert (back.status, back.definition["name"]) == (Status.RUNNING, "before")
    with pytest.raises(ChangeRefusedError, match="unit cannot change"):
        rolled_back(standing(Status.RUNNING), standing(unit="player").raw, NOW)


def test_rollback_of_a_deleted_experiment_is_a_draft() -> None:
    assert rolled_back(standing(Status.DELETED), standing().raw, NOW).status is Status.DRAFT


def test_experiment_that_cannot_be_read_can_be_stopped_and_put_right() -> None:
    raw = {"key": "tone", "variations": [], "of_a_later_release": 1}
    now = Standing("tone", 3, Status.RUNNING, raw, None, has_run=True)
    assert stopped(now) == Change(Status.STOPPED, raw)
    with pytest.raises(DefinitionError, match="of_a_later_release"):
        amended(now, {"name": "x"}, NOW)
    mended = amended(now, {"variations": HALVES, "of_a_later_release": None}, NOW)
    assert mended.status is Status.RUNNING
