"""Stops that a kill switch has decided on, kept until each is carried out.

By compare-and-set, as a person's change: of several processes that decided on the same stop, one
makes it, and the others find the experiment stopped.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import structlog

from anabranch.definition_records import Document
from anabranch.definitions import KillSwitch as Rule
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

logger = structlog.get_logger("service.kill_switch_stops")


class PendingStops:
    def __init__(
        self, log: DefinitionLog, audit: Audit, webhooks: Webhooks, metrics: ServiceMetrics
    ) -> None:
        self._log = log
        self._audit = audit
        self._webhooks = webhooks
        self._metrics = metrics
        self._trips: dict[str, Trip] = {}
        self._unsure: dict[str, int] = {}
        """By experiment: the version that a stop would be whose fate nobody told."""
        self._failed: set[str] = set()
        for outcome in ("stopped", "conflict", "unavailable"):
            metrics.kill_switch_stops.labels(outcome)

    @property
    def keys(self) -> Collection[str]:
        return self._trips.keys()

    @property
    def waiting(self) -> int:
        """How many could not be carried out at the last attempt."""
        return len(self._failed)

    def add(self, key: str, trip: Trip) -> None:
        self._trips[key] = trip
        logger.warning("a kill switch trips", experiment=key, reason=trip.reason)

    async def carry_out(self, running: Mapping[str, Rule]) -> None:
        """`running` are the experiments that run now, with the rules that they carry now."""
        for key, trip in list(self._trips.items()):
            document = self._log.get(key)
            if document is None or not self._is_due(key, trip, running.get(key)):
                self._drop(key, trip, document)
            else:
                await self._stop(key, trip, document)
        self._failed &= self._trips.keys()

    def _is_due(self, key: str, trip: Trip, rule: Rule | None) -> bool:
        """Not once somebody stopped it, changed the rule, or began another watch."""
        return rule == trip.rule and watched_since(self._log.history(key)) == trip.since

    def _drop(self, key: str, trip: Trip, document: Document | None) -> None:
        del self._trips[key]
        unsure = self._unsure.pop(key, None)
        if document is not None and (document.changed_by, document.version) == (ACTOR, unsure):
            self._tell(key, document.version, trip)  # it was stored after all

    async def _stop(self, key: str, trip: Trip, document: Document) -> None:
        try:
            made = await self._log.change(
                *(key, document.version, "stopped", document.definition, ACTOR, trip.reason)
            )
        except VersionConflictError:
            self._metrics.kill_switch_stops.labels("conflict").inc()
            return  # seen in the next round: stopped, or changed and still to be stopped
        except DefinitionLogError as error:
            self._metrics.kill_switch_stops.labels("unavailable").inc()
            if key not in self._failed:
                logger.warning("a kill switch could not stop yet", experiment=key, why=str(error))
            self._failed.add(key)
            unsure = isinstance(error, LogUnavailableError) and error.written is not False
            if unsure and key not in self._unsure:
                self._unsure[key] = document.version + 1
                wanted = {**state_of(document), "status": "stopped"}
                said = f"{trip.reason} (it is not known whether this was stored)"
                await self._record(key, document, wanted, said)
            return
        del self._trips[key]
        self._unsure.pop(key, None)
        self._tell(key, made.version, trip)
        await self._record(key, document, state_of(made), trip.reason)

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
        self, key: str, before: Document, after: Mapping[str, object], reason: str
    ) -> None:
        await self._audit.record(ACTOR, "experiment.stop", key, state_of(before), after, reason)
