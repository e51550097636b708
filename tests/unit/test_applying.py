"""Many definitions at once: what would change, in which order, or all that is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest

from anabranch.definition_set import DefinitionSet
from anabranch.definitions import Definition, as_json
from anabranch.plans import Status
from anabranch.reading import DefinitionError
from service.applying import Planned, Surrounding, There, plan, warnings_of
from service.experiments import Standing

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Document(NamedTuple):
    key: str
    version: int
    status: str
    definition: Mapping[str, Any]


def experiment(key: str, **fields: Any) -> dict[str, Any]:
    variations = [{"key": "control", "weight": 5_000}, {"key": "warm", "weight": 5_000}]
    return {"key": key, "variations": variations, **fields}


def surrounding(*documents: Document) -> Surrounding:
    definitions = DefinitionSet.of(documents)
    there = {one.key: There(one.version, one.status, one.definition) for one in documents}

    def standing(key: str) -> Standing | None:
        one = there.get(key)
        if one is None or one.status == "deleted":
            return None
        status = Status(one.status)
        definition = definitions.plans[key].definition
        return Standing(key, one.version, status, one.content, definition, has_run=True)

    return Surrounding(definitions, there.get, standing, NOW)


def written(key: str, status: str = "running", **fields: Any) -> Document:
    content = as_json(Definition.model_validate(experiment(key, **fields)))
    return Document(key, 4, status, content)


def planned(*documents: Any, around: Surrounding | None = None) -> list[Planned]:
    return plan(documents, around or surrounding())


def wrong(*documents: Any, around: Surrounding | None = None) -> dict[str, str]:
    with pytest.raises(DefinitionError) as refused:
        planned(*documents, around=around)
    return {one.place: one.problem for one in refused.value.wrong}


def test_documents_are_written_behind_what_they_name() -> None:
    needs = [{"experiment": "a", "variations": ["warm"]}]
    found = planned(
        experiment("b", prerequisites=needs),
        experiment("a", holdout="h", targeting={"p": {"$inGroup": "g"}}),
        {"kind": "parameter_set", "key": "s", "params": {}, "fallback": "t"},
        {"kind": "parameter_set", "key": "t", "params": {}},
        {
            "kind": "ratio",
            "key": "m",
            "numerator": {"outcome": "x"},
            "denominator": {"turn": "acts"},
        },
        {"kind": "group", "key": "g", "values": [1]},
        {"kind": "holdout", "key": "h", "share": 10},
        {"kind": "limits", "limits": {"x": {"type": "integer"}}},
    )
    assert [one.document_key for one in found] == [
        *("limits:installation", "holdout:h", "group:g", "parameter_set:t", "parameter_set:s"),
        *("metric:m", "a", "b"),
    ]
    assert {one.action for one in found} == {"create"}
    assert [one.place for one in found] == [7, 6, 5, 3, 2, 4, 1, 0]


def test_experiment_that_is_there_keeps_its_status_and_shows_its_changes() -> None:
    around = surrounding(written("a", coverage=100))
    (found,) = planned(experiment("a", name="n"), around=around)
    assert (found.action, found.change.status) == ("change", Status.RUNNING)
    changes = {one.place: (one.before, one.after) for one in found.changes}
    assert changes == {"name": ("", "n"), "coverage": (100, 10_000)}
    (same,) = planned(experiment("a", coverage=100), around=around)
    assert same.action == "same"


def test_deleted_experiment_is_made_anew_behind_its_last_version() -> None:
    (found,) = planned(experiment("a"), around=surrounding(written("a", "deleted")))
    assert (found.action, found.change.status) == ("create", Status.DRAFT)
    assert found.based_on is not None
    assert found.based_on.version == 4


def test_everything_that_is_wrong_is_said_with_the_place_of_its_document() -> None:
    running = surrounding(written("a"))
    assert wrong(
        3,
        {"kind": "metric", "key": "m"},
        {"kind": "holdout", "share": 10_001},
        experiment("a", seed="other"),
        experiment("b", status="running"),
        around=running,
    ) == {
        "documents.0": "is no object",
        "documents.1.kind": "is 'metric'; there are limits, holdout, group, parameter_set, "
        "experiment, and of metrics mean, proportion, ratio, quantile, count",
        "documents.2.key": "is missing",
        "documents.2.share": "is 10001, and must be 10000 or less",
        "documents.3": "a is running. seed cannot change from a to other, since units would change "
        "places: stop the experiment first, or clone it and start the clone",
        "documents.4.status": "is kept by the system: start, stop, schedule and archive change it",
    }


def test_names_are_looked_for_among_what_is_there_and_what_is_new() -> None:
    assert (
        "h2 is no holdout; did you mean h?"
        in (
            wrong(experiment("a", holdout="h2"), {"kind": "holdout", "key": "h", "share": 1})[
                "documents.0.holdout"
            ]
        )
    )
    needs = {key: [{"experiment": key, "variations": ["warm"]}] for key in "ab"}
    circle = wrong(
        experiment("a", prerequisites=needs["b"]), experiment("b", prerequisites=needs["a"])
    )
    assert circle["documents.0.prerequisites"].endswith("a needs b needs a")


def test_key_that_is_there_twice_is_refused() -> None:
    found = wrong(experiment("a"), experiment("a", name="x"))
    assert found == {"documents.1.key": "is there twice; documents.0 is a, too"}


def test_built_in_metric_cannot_be_applied() -> None:
    found = wrong({"kind": "mean", "key": "turn_ms", "source": {"outcome": "x"}})
    assert found == {"documents.0": "the metric turn_ms is built in and cannot be changed"}


def test_warnings_know_the_metrics_that_are_new() -> None:
    documents = [
        experiment("a", metrics={"primary": ["m", "n"]}),
        {"kind": "mean", "key": "m", "source": {"outcome": "x"}},
    ]
    around = surrounding()
    found = warnings_of(plan(documents, around), around, frozenset({"turn_ms"}))
    assert [one.place for one in found] == ["documents.0.metrics.primary.1"]
