"""What an experiment names: what has to be there, and what is worth a warning."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest

from anabranch.definition_set import DefinitionSet
from anabranch.reading import DefinitionError
from service.experiment_checks import check_references
from service.experiment_prerequisites import users_of
from service.experiment_states import ChangeRefusedError
from service.experiment_warnings import Warnings
from service.installation_kinds import GROUPS, HOLDOUTS, PARAMETER_SETS, groups_in

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()


class Document(NamedTuple):
    key: str
    version: int
    status: str
    definition: Mapping[str, Any]


def experiment(key: str, /, status: str = "running", **fields: Any) -> Document:
    variations = [{"key": "control", "weight": 5_000}, {"key": "warm", "weight": 5_000}]
    content = {"key": key, "variations": variations, "metrics": {"primary": ["turn_ms"]}, **fields}
    return Document(key, 1, status, content)


def named(key: str, **content: Any) -> Document:
    return Document(key, 1, "running", content)


def needs(*keys: str, variation: str = "warm") -> list[dict[str, Any]]:
    return [{"experiment": key, "variations": [variation]} for key in keys]


def wrong(key: str, *documents: Document) -> dict[str, str]:
    definitions = DefinitionSet.of(documents)
    assert not definitions.unusable
    try:
        check_references(definitions.plans[key].definition, definitions)
    except DefinitionError as error:
        return {one.place: one.problem for one in error.wrong}
    return {}


def warned(key: str, *documents: Document) -> dict[str, str]:
    definitions = DefinitionSet.of(documents)
    warnings = Warnings(definitions, {"turn_ms", "revenue"}, NOW)
    return {one.place: one.problem for one in warnings.of(definitions.plans[key])}


def test_names_that_are_not_there_are_errors_with_the_nearest() -> None:
    sets = [{"key": "a", "weight": 10_000, "parameter_set": "full_stak"}]
    found = wrong(
        "e",
        experiment(
            *("e",),
            holdout="globl",
            variations=sets,
            targeting={"player": {"$inGroup": "testers"}},
        ),
        named("holdout:global", share=100),
        named("parameter_set:full_stack", params={}),
    )
    assert found["holdout"] == "globl is no holdout; did you mean global?"
    assert "did you mean full_stack?" in found["variations.0.parameter_set"]
    assert "testers" in found["targeting"]


def test_names_that_are_there_are_no_errors() -> None:
    assert not wrong(
        "e",
        experiment("e", holdout="global", targeting={"player": {"$inGroup": "testers"}}),
        named("holdout:global", share=100),
        named("group:testers", values=["p1"]),
    )


def test_prerequisite_has_to_be_there_with_its_variation() -> None:
    found = wrong("b", experiment("a"), experiment("b", prerequisites=needs("z")))
    assert found["prerequisites.0.experiment"] == "z is no experiment; there are a"
    cold = needs("a", variation="cold")
    found = wrong("b", experiment("a"), experiment("b", prerequisites=cold))
    assert (
        "cold is no variation of a; there are control, warm"
        in (found["prerequisites.0.variations"])
    )


def test_circle_of_prerequisites_is_said_as_it_goes() -> None:
    found = wrong(
        "a",
        experiment("a", prerequisites=needs("b")),
        experiment("b", prerequisites=needs("x", "c")),
        experiment("c", prerequisites=needs("a")),
        experiment("x"),
    )
    assert found["prerequisites"] == "they go round in a circle: a needs b needs c needs a"


def test_prerequisites_one_on_the_other_have_a_limit() -> None:
    chain = [experiment("e0")]
    chain += [experiment(f"e{i}", prerequisites=needs(f"e{i - 1}")) for i in range(1, 12)]
    assert not wrong("e10", *chain[:11])
    assert "e11 would stand on 11 others" in wrong("e11", *chain)["prerequisites"]


def test_decision_that_would_take_too_many_others_is_refused() -> None:
    layers = [[f"l{depth}_{i}" for i in range(4)] for depth in range(5)]
    documents = [experiment(key) for key in layers[0]]
    for above, below in zip(layers[1:], layers, strict=False):
        documents += [experiment(key, prerequisites=needs(*below)) for key in above]
    assert "the limit is 100" in wrong("l4_0", *documents)["prerequisites"]
    assert not wrong("l2_0", *documents[:12])


def test_variation_that_another_experiment_wants_cannot_go() -> None:
    alone = [{"key": "control", "weight": 10_000}]
    found = wrong("a", experiment("a", variations=alone), experiment("b", prerequisites=needs("a")))
    assert "b has it as a prerequisite" in found["variations"]
    definitions = DefinitionSet.of([experiment("a"), experiment("b", prerequisites=needs("a"))])
    assert users_of("a", definitions) == ["b"]


def test_experiment_as_it_should_be_has_no_warnings() -> None:
    assert warned("e", experiment("e")) == {}


def test_parameters_outside_their_limits_are_warned_of_where_they_stand() -> None:
    params = {"key": "a", "weight": 10_000, "params": {"max_choices": 99, "tone": "x"}}
    found = warned("e", experiment("e", variations=[params], params={"unknown": 1}))
    assert set(found) == {"variations.0.params.max_choices", "params.unknown"}
    assert found["variations.0.params.max_choices"].startswith("max_choices is 8 instead of 99")


def test_unknown_metrics_and_the_lack_of_a_primary_one_are_warned_of() -> None:
    metrics = {
        "secondary": ["turn_mss"],
        "guardrails": [{"metric": "x", "max_relative_increase": 1}],
    }
    found = warned("e", experiment("e", metrics=metrics))
    assert found["metrics.primary"] == "is empty: no metric decides the experiment"
    assert found["metrics.secondary.0"] == "turn_mss is no metric; did you mean turn_ms?"
    assert "metrics.guardrails.0.metric" in found


@pytest.mark.parametrize(("threshold", "is_odd"), [(0.2, False), (2.0, False), (20.0, True)])
def test_threshold_that_looks_like_percent_is_warned_of(threshold: float, is_odd: bool) -> None:
    rule = {"metric": "turn_ms", "direction": "increase", "threshold": threshold}
    found = warned("e", experiment("e", kill_switch=rule))
    assert ("kill_switch.threshold" in found) == is_odd
    if is_odd:
        assert found["kill_switch.threshold"].startswith("allows 2,000 % more than the control")


def test_overlap_in_a_namespace_is_warned_of_while_both_run() -> None:
    mine = experiment("e", namespace={"name": "n", "start": 0, "end": 5_000})
    other = experiment("o", namespace={"name": "n", "start": 4_000, "end": 9_000})
    assert warned("e", mine, other)["namespace"].startswith("4000 to 5000 of n is o's as well")
    assert "namespace" not in warned("e", mine, other._replace(status="stopped"))
    beside = experiment("o", namespace={"name": "n", "start": 5_000, "end": 9_000})
    assert "namespace" not in warned("e", mine, beside)


def test_seed_of_another_experiment_is_warned_of() -> None:
    assert "is that of o, too" in warned("e", experiment("e"), experiment("o", seed="e"))["seed"]


def test_groups_are_found_at_any_depth() -> None:
    condition = {
        "$or": [{"a": {"$inGroup": "g1"}}, {"$not": {"b": {"$not": {"$notInGroup": "g2"}}}}],
        "c": {"$in": ["g3"]},
    }
    assert set(groups_in(condition)) == {"g1", "g2"}


def test_what_experiments_name_stays_while_they_name_it() -> None:
    definitions = DefinitionSet.of(
        [
            experiment("e", holdout="h", targeting={"p": {"$inGroup": "g"}}),
            experiment("old", "archived", holdout="h2"),
            named("holdout:h", share=1),
            named("holdout:h2", share=1),
            named("parameter_set:a", params={}, fallback="b"),
            named("parameter_set:b", params={}),
        ]
    )
    held = definitions.surroundings.holdouts["h"]
    for kind, key in ((HOLDOUTS, "h"), (GROUPS, "g"), (PARAMETER_SETS, "b")):
        with pytest.raises(ChangeRefusedError, match=f"{key} is"):
            kind.check_change(key, held, None, definitions)
    HOLDOUTS.check_change("h2", held, None, definitions)
    HOLDOUTS.check_change("h", held, held.model_copy(update={"share": 9}), definitions)
    with pytest.raises(ChangeRefusedError, match="other units would be held out of e"):
        HOLDOUTS.check_change("h", held, held.model_copy(update={"unit": "user"}), definitions)


def test_fallbacks_of_parameter_sets_end_somewhere() -> None:
    definitions = DefinitionSet.of(
        [named("parameter_set:a", params={}), named("parameter_set:b", params={}, fallback="a")]
    )
    wanted = definitions.surroundings.parameter_sets["b"]
    with pytest.raises(DefinitionError, match="a falls back to b falls back to a"):
        PARAMETER_SETS.check("a", wanted.model_copy(update={"fallback": "b"}), definitions)
    with pytest.raises(DefinitionError, match="c is no parameter set"):
        PARAMETER_SETS.check("a", wanted.model_copy(update={"fallback": "c"}), definitions)
