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
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

import structlog

from anabranch.definitions import KillSwitch as Rule
from anabranch.plans import Plan, Status
from analysis.estimates import Estimate
from analysis.kill_switch import Unwatched, Watched, look, unwatchable
from analysis.metric_catalogue import BUILT_IN, Metric
from analysis.verdict import NoVerdict
from service.audit import Audit
from service.definition_log import DefinitionLog
from service.kill_switch_rules import Trip, watched_since
from service.kill_switch_stops import PendingStops
from service.metrics import ServiceMetrics
from service.webhooks import Webhooks
from sinks.clickhouse import ClickHouseRefused, ClickHouseUnavailable
from sinks.limited_queries import QueryLimitError
from sinks.watched_units import Progress
from streams.live_definitions import LiveDefinitions

logger = structlog.get_logger("service.kill_switch")

LOOK_SECONDS = 1.0
BLIND_AFTER_SECONDS = 10.0
"""Without an answer of ClickHouse for so long, /readyz warns of it."""


class Units(Protocol):
    async def progress(self) -> Progress: ...

    async def arms(
        self, experiment: str, since_version: int, variations: Sequence[str], metric: Metric
    ) -> Mapping[str, Estimate | NoVerdict]: ...


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
        """The last one at each experiment that carries a rule, be it stopped since."""
        self.watched: frozenset[str] = frozenset()
        """The experiments that carry a rule and run."""
        self._log = log
        self._definitions = definitions
        self._units = units
        self._stops = PendingStops(log, audit, webhooks, metrics)
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep
        self._looked_at: tuple[Progress, tuple[tuple[str, int], ...]] | None = None
        self._seen_at: float | None = None
        """When ClickHouse last answered; None while there is nothing to ask."""
        self._problem: str | None = None
        self._task: asyncio.Task[None] | None = None
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
        """For /readyz, which anybody may read: it names no experiment."""
        said = []
        looks = [look for key, look in self.looks.items() if key in self.watched]
        if wrong := sum(look.problem is not None for look in looks):
            said.append(
                f"{wrong} of {len(looks)} rules see nothing; the log says which, and "
                "GET /v1/experiments/{key}/kill-switch why"
            )
        if (blind := self.blind_seconds()) > BLIND_AFTER_SECONDS:
            said.append(f"has not seen new data for {blind:.0f} s: {self._problem or 'it is slow'}")
        if waiting := self._stops.waiting:
            said.append(f"stops that could not be made yet: {waiting}; they are tried every second")
        return "; ".join(said) or None

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
        self.watched = frozenset(watched)
        ruled = self._definitions.current.plans
        self.looks = {key: one for key, one in self.looks.items() if key in ruled}
        if not watched:
            self._looked_at = self._seen_at = None
        else:
            await self._look_at(watched)
        await self._stops.carry_out({key: rule for key, (_, rule) in self._watched().items()})

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
                fine = [
                    await self._judge(key, plan, rule)
                    for key, (plan, rule) in watched.items()
                    if key not in self._stops.keys
                ]
                if not all(fine):
                    self._looked_at = None
                    return
        except (ClickHouseUnavailable, ClickHouseRefused, QueryLimitError) as error:
            if self._problem is None:
                logger.warning("the kill switch is blind", problem=str(error))
            self._metrics.kill_switch_looks.labels("unavailable").inc()
            self._problem = str(error)
            return
        self._looked_at, self._seen_at, self._problem = now, self._clock(), None

    async def _judge(self, key: str, plan: Plan, rule: Rule) -> bool:
        """False where looking again in a moment may do better. Raises ClickHouseUnavailable."""
        since = watched_since(self._log.history(key))
        seen = Look(datetime.fromtimestamp(self._clock(), UTC), rule, since, plan.version)
        try:
            metric = self._metric(rule.metric)
            if metric is None:
                self._blind_to(key, seen, "unknown_metric", f"there is no metric {rule.metric}")
                return True
            if (why := unwatchable(metric)) is not None:
                self._blind_to(key, seen, "unwatchable", f"{rule.metric} {why}")
                return True
            arms = await self._units.arms(key, since, plan.keys, metric)
            control, *others = plan.keys
            found = tuple(look(rule, control, others, arms))
        except (ClickHouseRefused, QueryLimitError) as error:
            self._blind_to(key, seen, "refused", str(error))
            return False
        except ClickHouseUnavailable:
            raise
        except Exception:
            # The top of a task: one experiment, its metric of a later release perhaps, stops no
            # other from being watched.
            logger.exception("a kill switch sees nothing", experiment=key)
            self._blind_to(key, seen, "failed", "a bug, see the log")
            return False
        self.looks[key] = replace(seen, arms=found)
        judged = [one for one in found if isinstance(one, Watched)]
        self._metrics.kill_switch_looks.labels("judged" if judged else "early").inc()
        tripped = [one for one in judged if one.trips]
        if tripped:
            self._stops.add(key, Trip(since, rule, min(tripped, key=lambda one: one.p_value)))
        return True

    def _blind_to(self, key: str, seen: Look, outcome: str, problem: str) -> None:
        self._metrics.kill_switch_looks.labels(outcome).inc()
        before = self.looks.get(key)
        if before is None or before.problem != problem:
            logger.warning("a kill switch sees nothing", experiment=key, problem=problem)
        self.looks[key] = replace(seen, problem=problem)

    def _metric(self, name: str) -> Metric | None:
        if name in BUILT_IN:
            return BUILT_IN[name]
        document = self._log.get(f"metric:{name}")
        if document is None or document.status == Status.DELETED:
            return None
        return Metric.model_validate_json(document.text)
