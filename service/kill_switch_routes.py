"""What the kill switch of an experiment sees, and the one call that undoes its stop."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from anabranch.definitions import KillSwitch as Rule
from analysis.kill_switch import Unwatched, Watched
from analysis.verdict import NoVerdictReason
from service.access import Access, Permission, needs
from service.experiment_answers import ExperimentAnswer, moment
from service.experiment_documentation import CHANGING, Comment
from service.experiment_routes import CHANGED, READ, answer, body_or_nothing
from service.experiment_store import ExperimentStore
from service.experiments import started
from service.kill_switch import KillSwitch
from service.kill_switch_rules import ACTOR, stopped_by, watched_since
from service.problems import Kind, Problem, problem_answers
from service.settings import ServiceSettings


class WatchedArm(BaseModel):
    variation: str = Field(description="Compared with the control.")
    units: int | None = Field(description="Null before there are enough.")
    value: float | None = Field(description="Of the rule's metric.")
    control_units: int | None = Field(description="Of the control.")
    control_value: float | None = Field(description="Of the control.")
    p_value: float | None = Field(
        description='Of "the harm is within the threshold", valid at any time; the switch trips '
        "below 1 - level."
    )
    no_verdict: str | None = Field(description="Why there is no p-value.")


class KillSwitchAnswer(BaseModel):
    experiment: str = Field(description="Its key.")
    rule: Rule | None = Field(description="Null where the experiment has none.")
    armed: bool = Field(description="It runs and its rule is watched.")
    since_version: int | None = Field(
        description="Units whose first exposure was by this version or a later one are watched."
    )
    looked_at: datetime | None = Field(description="When there last were new data.")
    problem: str | None = Field(description="Why it sees nothing, if so.")
    arms: list[WatchedArm] = Field(description="Empty before the first look.")


def kill_switch_routes(
    access: Access, store: ExperimentStore, switch: KillSwitch, settings: ServiceSettings
) -> APIRouter:
    router = access.router(tags=["experiments"])
    documented: dict[str, Any] = {
        "response_model": ExperimentAnswer,
        "responses": problem_answers(*CHANGED),
        "openapi_extra": CHANGING,
    }

    @router.get(
        "/v1/experiments/{key}/kill-switch",
        response_model=KillSwitchAnswer,
        responses=problem_answers(*READ),
    )
    @needs(Permission.VIEW)
    async def kill_switch(key: str) -> KillSwitchAnswer:
        """What the kill switch watches and what it saw last, as this process of the service has
        it: each watches by itself."""
        now = store.standing(store.find(key))
        rule = None if now.definition is None else now.definition.kill_switch
        seen = switch.looks.get(key)
        is_watched = key in switch.watched
        if seen is not None and (
            seen.rule != rule
            or seen.version > now.version
            # Started anew since: what was seen before is not watched any more.
            or (is_watched and seen.since != watched_since(store.history(key)))
        ):
            seen = None
        return KillSwitchAnswer(
            experiment=key,
            rule=rule,
            armed=seen is not None and seen.problem is None and is_watched,
            since_version=None if seen is None else seen.since,
            looked_at=None if seen is None else seen.at,
            problem=None if seen is None else seen.problem,
            arms=[] if seen is None else [_arm(one, seen.since) for one in seen.arms],
        )

    @router.post("/v1/experiments/{key}/kill-switch/undo", **documented)
    @needs(Permission.EXPERIMENT)
    async def undo(request: Request, key: str, comment: Comment = "") -> Response:
        """Starts an experiment again that its kill switch stopped. The rule stays, and watches
        from now on: units that were exposed before are not looked at again."""
        await body_or_nothing(request, settings)
        document = store.find(key)
        stop = stopped_by(store.history(key))
        if stop is None or stop.changed_by != ACTOR:
            how = "has not been stopped"
            if stop is not None:
                at = moment(stop.changed_at_ms)
                how = f"was stopped by {stop.changed_by} at {at}, not by its kill switch"
            raise Problem(
                Kind.CONFLICT,
                f"{key} {how}, so there is nothing to undo; "
                f"POST /v1/experiments/{key}/start starts a stopped one",
            )
        said = comment or f"the stop of version {stop.version} by the kill switch is undone"
        document = await store.change(
            *(request, "experiment.undo_kill_switch", document),
            *(lambda now: started(now, store.now()), said),
        )
        return answer(store, document)

    return router


def _arm(one: Watched | Unwatched, since: int) -> WatchedArm:
    if isinstance(one, Unwatched):
        why = one.why.sentence
        if one.why.reason is NoVerdictReason.NO_UNITS:
            why += f" Units count whose first exposure was by version {since} or a later one."
        return WatchedArm(
            variation=one.variation,
            units=None,
            value=None,
            control_units=None,
            control_value=None,
            p_value=None,
            no_verdict=why,
        )
    return WatchedArm(
        variation=one.variation,
        units=one.arm.units,
        value=one.arm.value,
        control_units=one.control.units,
        control_value=one.control.value,
        p_value=one.p_value,
        no_verdict=None,
    )
