"""The doors to definitions, put together for the application."""

from __future__ import annotations

from fastapi import APIRouter

from service.access import Access
from service.apply_routes import apply_routes
from service.audit import Audit
from service.definition_changes import DefinitionChanges
from service.definition_log import DefinitionLog
from service.experiment_routes import experiment_routes
from service.experiment_store import ExperimentStore, PhaseOpening
from service.experiment_verb_routes import experiment_verb_routes
from service.installation_kinds import GROUPS, HOLDOUTS, PARAMETER_SETS
from service.kill_switch import KillSwitch
from service.kill_switch_routes import kill_switch_routes
from service.limit_routes import limit_routes
from service.metric_kind import METRICS
from service.named_documents import NamedDocuments
from service.named_routes import named_routes
from service.settings import ServiceSettings
from service.variation_routes import variation_routes
from streams.live_definitions import LiveDefinitions


def administration_routes(
    access: Access,
    log: DefinitionLog,
    definitions: LiveDefinitions,
    audit: Audit,
    phases: PhaseOpening,
    kill_switch: KillSwitch,
    settings: ServiceSettings,
) -> list[APIRouter]:
    changes = DefinitionChanges(log, definitions, audit)
    store = ExperimentStore(changes, phases)
    kinds = (METRICS, HOLDOUTS, GROUPS, PARAMETER_SETS)
    return [
        experiment_routes(access, store, settings),
        experiment_verb_routes(access, store, settings),
        kill_switch_routes(access, store, kill_switch, settings),
        variation_routes(access, store, settings),
        apply_routes(access, changes, store, settings),
        *(named_routes(access, NamedDocuments(changes, kind), settings) for kind in kinds),
        limit_routes(access, changes, settings),
    ]
