"""Stops running experiments that carry a rule and do harm.

Every process of the service watches: once a second it asks whether workers have applied batches,
and if so looks at each experiment with a rule (`analysis.kill_switch`). What trips is stopped by
the same compare-and-set as a person's change, so of several processes one stops it; the others
find it stopped. A trip is kept until it is carried out, however long Kafka is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import structlog

from anabranch.definition_records import Document
from anabranch.definitions import KillSwitch as Rule
from anabranch.plans import Plan, Status
from analysis.kill_switch import Unwatched, Watched, estimate_of, look, unwatchable
from analysis.metric_catalogue import BUILT_IN, Metric
from analysis.moments import JointMoments
from service.audit import Audit
from service.definition_changes import state_of
from service.definition_errors import (
    DefinitionLogError,
    LogUnavailableError,
    VersionConflictError,
)
from service.definition_log import DefinitionLog
from service.kill_switch_rules import ACTOR, Trip, message, message_id, watched_since
from service.metrics import ServiceMetrics
from service.webhooks import Webhooks
from sinks.clickhouse import ClickHouseRefused, ClickHouseUnavailable
from sinks.watched_units import Progress
from streams.live_definitions import LiveDefinitions

logger = structlog.get_logger("service.kill_switch")

LOOK_SECONDS = 1.0
BLIND_AFTER_SECONDS = 10.0
"""Without an answer of ClickHouse for so long, /readyz warns of it."""


class Units(Protocol):
    async def progress(self) -> Progress: ...

    async def arms(
        self, experiment: str, since_version: int, metric: Metric
    ) -> Mapping[str, JointMoments]: ...


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen of one experiment the last time."""

    at: datetime
    rule: Rule
    since: int
    version: int
    arms: tuple[Watched | Unwatched, ...] = ()
    problem: str | None = None
    """Why nothing can be seen, if so."""


class KillSwitch:
    def __init__(
        self,
        log: DefinitionLog,
        definitions: LiveDefinitions,
        units: Units,
        audit: Audit,
        webhooks: Webhooks,
        metrics: ServiceMetrics,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.looks: dict[str, Look] = {}
        """The last one at each experiment that carries a rule and runs."""
        self._log = log
        self._definitions = definitions
        self._units = units
        self._audit = audit
        self._webhooks = webhooks
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep
        self._trips: dict[str, Trip] = {}
        self._unsure: dict[str, int] = {}
        """By experiment: the version that a stop would be whose fate nobody told."""
        self._looked_at: tuple[Progress, tuple[tuple[str, int], ...]] | None = None
        self._seen_at: float | None = None
        """When ClickHouse last answered; None while there is nothing to ask."""
        self._problem: str | None = None
        self._stop_problem: str | None = None
        self._task: asyncio.Task[None] | None = None
        for outcome in ("stopped", "conflict", "unavailable"):
            metrics.kill_switch_stops.labels(outcome)
        metrics.kill_switch_blind_seconds.set_function(self.blind_seconds)

    def start(self) -> None:
        self._task = asyncio.create_task(self._watch(), name="kill-switch")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def blind_seconds(self) -> float:
        return 0.0 if self._seen_at is None else max(0.0, self._clock() - self._seen_at)

    def warning(self) -> str | None:
        """For /readyz."""
        if (blind := self.blind_seconds()) > BLIND_AFTER_SECONDS:
            return f"has not seen new data for {blind:.0f} s: {self._problem or 'it is slow'}"
        wrong = {key: one.problem for key, one in self.looks.items() if one.problem}
        if wrong:
            return "; ".join(f"{key}: {problem}" for key, problem in sorted(wrong.items())[:5])
        if self._trips:
            return f"could not stop {', '.join(sorted(self._trips)[:5])} yet: {self._stop_problem}"
        return None

    async def _watch(self) -> None:
        while True:
            try:
                await self.round()
            except Exception:
                # The top of a task: whatever it is, the next round may do better.
                self._metrics.kill_switch_looks.labels("failed").inc()
                self._problem = "a bug, see the log"
                logger.exception("the kill switch could not look")
            await self._sleep(LOOK_SECONDS)

    async def round(self) -> None:
        watched = self._watched()
        self._metrics.kill_switch_rules.set(len(watched))
        self.looks = {key: one for key, one in self.looks.items() if key in watched}
        if not watched:
            self._looked_at = self._seen_at = None
        else:
            await self._look_at(watched)
        for key in list(self._trips):
            await self._carry_out(key)

    def _watched(self) -> dict[str, tuple[Plan, Rule]]:
        at = self._clock()
        return {
            key: (plan, plan.definition.kill_switch)
            for key, plan in self._definitions.current.plans.items()
            if plan.definition.kill_switch is not None and plan.runs_at(at)
        }

    async def _look_at(self, watched: Mapping[str, tuple[Plan, Rule]]) -> None:
        if self._seen_at is None:
            self._seen_at = self._clock()  # from here on it may be blind
        try:
            versions = tuple((key, plan.version) for key, (plan, _) in watched.items())
            now = await self._units.progress(), versions
            if now != self._looked_at:
                for key, (plan, rule) in watched.items():
                    if key not in self._trips:
                        await self._judge(key, plan, rule)
        except (ClickHouseUnavailable, ClickHouseRefused) as error:
            if self._problem is None:
                logger.warning("the kill switch is blind", problem=str(error))
            self._metrics.kill_switch_looks.labels("unavailable").inc()
            self._problem = str(error)
            return
        self._looked_at, self._seen_at, self._problem = now, self._clock(), None

    async def _judge(self, key: str, plan: Plan, rule: Rule) -> None:
        since = watched_since(self._log.history(key))
        seen = Look(datetime.fromtimestamp(self._clock(), UTC), rule, since, plan.version)
        metric = self._metric(rule.metric)
        if metric is None:
            self._blind_to(key, seen, "unknown_metric", f"there is no metric {rule.metric}")
            return
        if (why := unwatchable(metric)) is not None:
            self._blind_to(key, seen, "unwatchable", f"{rule.metric} {why}")
            return
        try:
            arms = await self._units.arms(key, since, metric)
        except ClickHouseRefused as error:
            self._blind_to(key, seen, "refused", str(error))
            return
        estimates = {name: estimate_of(metric, moments) for name, moments in arms.items()}
        control, *others = plan.keys
        found = tuple(look(rule, control, others, estimates))
        self.looks[key] = Look(seen.at, rule, since, plan.version, found)
        judged = [one for one in found if isinstance(one, Watched)]
        self._metrics.kill_switch_looks.labels("judged" if judged else "early").inc()
        tripped = [one for one in judged if one.trips]
        if tripped:
            trip = Trip(since, rule, min(tripped, key=lambda one: one.p_value))
            self._trips[key] = trip
            logger.warning("a kill switch trips", experiment=key, reason=trip.reason)

    def _blind_to(self, key: str, seen: Look, outcome: str, problem: str | None) -> None:
        self._metrics.kill_switch_looks.labels(outcome).inc()
        before = self.looks.get(key)
        if before is None or before.problem != problem:
            logger.warning("a kill switch sees nothing", experiment=key, problem=problem)
        self.looks[key] = Look(seen.at, seen.rule, seen.since, seen.version, (), problem)

    def _metric(self, name: str) -> Metric | None:
        if name in BUILT_IN:
            return BUILT_IN[name]
        document = self._log.get(f"metric:{name}")
        if document is None or document.status == Status.DELETED:
            return None
        return Metric.model_validate_json(document.text)

    async def _carry_out(self, key: str) -> None:
        trip, document = self._trips[key], self._log.get(key)
        runs = document is not None and key in self._watched()
        if document is None or not runs or watched_since(self._log.history(key)) != trip.since:
            # Stopped by whoever was quicker, or another watch has begun.
            del self._trips[key]
            unsure = self._unsure.pop(key, None)
            if document is not None and (document.changed_by, document.version) == (ACTOR, unsure):
                self._tell(key, document.version, trip)  # it was stored after all
            return
        try:
            made = await self._log.change(
                *(key, document.version, "stopped", document.definition, ACTOR, trip.reason)
            )
        except VersionConflictError:
            self._metrics.kill_switch_stops.labels("conflict").inc()
            return  # seen in the next round: stopped, or changed and still to be stopped
        except DefinitionLogError as error:
            self._metrics.kill_switch_stops.labels("unavailable").inc()
            self._stop_problem = str(error)
            logger.warning("a kill switch could not stop yet", experiment=key, problem=str(error))
            unsure = isinstance(error, LogUnavailableError) and error.written is not False
            if unsure and key not in self._unsure:
                self._unsure[key] = document.version + 1
                said = f"{trip.reason} (it is not known whether this was stored)"
                await self._record(key, document, None, said)
            return
        del self._trips[key]
        self._unsure.pop(key, None)
        self._tell(key, made.version, trip)
        await self._record(key, document, made, trip.reason)

    def _tell(self, key: str, version: int, trip: Trip) -> None:
        self._metrics.kill_switch_stops.labels("stopped").inc()
        logger.warning(
            "a kill switch stopped an experiment",
            experiment=key,
            version=version,
            reason=trip.reason,
        )
        self._webhooks.send(
            "experiment.stopped_by_kill_switch",
            message_id(key, version),
            message(key, version, trip),
        )

    async def _record(
        self, key: str, before: Document, after: Document | None, reason: str
    ) -> None:
        state = state_of(before)
        stopped = {**state, "status": "stopped"} if after is None else state_of(after)
        await self._audit.record(ACTOR, "experiment.stop", key, state, stopped, reason)
