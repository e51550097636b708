"""`Experiments`: which variation a unit gets, in process.

    experiments = Experiments.from_url("http://anabranch:8080", key, emitter=emitter,
                                       cache="/var/lib/dialogue/definitions.json")
    experiments.wait(5)                     # at the start, if the first requests should count
    found = experiments.assign("npc_tone", session, {"locale": "en"})
    found.params.get("tone", "neutral")

An assignment is a matter of microseconds: it never waits for the network, and the exposure goes to
the emitter's queue, once within the window for the same unit. Threads may share one object.
"""

from __future__ import annotations

import importlib.metadata
import threading
from collections.abc import Collection, Mapping
from os import PathLike
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

from pydantic import SecretStr, ValidationError

from anabranch import process
from anabranch.assignment import Assignment, Reason
from anabranch.definition_choice import refresh_by
from anabranch.definition_refresh import InvalidParams
from anabranch.definition_set import DefinitionSet, Units
from anabranch.emitter import Emitter, SyncEmitter
from anabranch.environment import experiments_settings
from anabranch.errors import ExperimentsSettingsError
from anabranch.exposure_log import Emits, ExposureLog
from anabranch.exposure_memory import ExposureMemory
from anabranch.settings import ExperimentsSettings

_NOTHING: Mapping[str, Any] = {}


class Options(TypedDict, total=False):
    """Those of ExperimentsSettings that go with every source; their meanings stand there."""

    poll_seconds: float
    stream: bool
    timeout_seconds: float
    ca_file: str | PathLike[str] | None
    exposure_window_seconds: float
    remembered_exposures: int
    source: str


class ExperimentsCounters:
    """Each figure only grows, and starts at zero in a forked child."""

    def __init__(self) -> None:
        self.refreshes = 0
        """Times that other definitions were taken."""
        self.failures = 0
        """Times that definitions could not be fetched, read or taken."""
        self.exposures_logged = 0
        """Taken by the emitter."""
        self.exposures_repeated = 0
        """Not logged, since the same one was within the window."""
        self.exposures_refused = 0
        """Not taken by the emitter, whose counters say why; the unit's next request tries again."""
        self.dimensions_left_out = 0
        """Values that exposures do not carry: no scalar, too long, unprintable, personal."""
        self.failed = 0
        """Assignments that failed: the reason FAILED, but for that there were no definitions."""
        self.invalid_params: InvalidParams = InvalidParams()
        """Parameters that are not passed on as written, once for each version of a definition."""


class Experiments:
    """Raises only when it is made, and what a strict emitter raises for a wrong event."""

    close_timeout = 0.0

    def __init__(self, settings: ExperimentsSettings, emitter: Emits | None = None) -> None:
        """Reads the copy or the file, and does not wait for the service."""
        self.settings = settings
        if isinstance(emitter, Emitter | SyncEmitter) and not emitter.settings.enabled:
            emitter = None
        self._emitter = emitter
        self._begin()
        self._refresh = refresh_by(settings)
        self._refresh.start()
        process.take_in(self, on_sigterm=False)

    @classmethod
    def from_url(
        cls,
        url: str,
        key: str | SecretStr | None = None,
        *,
        emitter: Emits | None = None,
        cache: str | PathLike[str] | None = None,
        **options: Unpack[Options],
    ) -> Self:
        """From the service; `cache` serves when it is away at the start."""
        return cls(_settings(url=url, key=key, cache=cache, **options), emitter)

    @classmethod
    def from_file(
        cls,
        path: str | PathLike[str],
        *,
        emitter: Emits | None = None,
        **options: Unpack[Options],
    ) -> Self:
        """From a file of what `GET /v1/definitions` answers, which is read again when it changes.

        Raises ExperimentsSettingsError when it cannot be read.
        """
        return cls(_settings(file=path, **options), emitter)

    @classmethod
    def from_environment(
        cls, emitter: Emits | None = None, environment: Mapping[str, str] | None = None
    ) -> Self:
        """With ANABRANCH_EXPERIMENTS__URL, __KEY, __CACHE and so on, or __FILE."""
        return cls(experiments_settings(environment), emitter)

    def assign(
        self,
        experiment: str,
        units: Units,
        attributes: Mapping[str, Any] | None = None,
        *,
        log: bool = True,
        away: Collection[str] = (),
        explain: bool = False,
    ) -> Assignment:
        """What a unit gets. Its exposure is logged when it is in the experiment.

        `units`: one for all kinds, or {"session": ..., "player": ...}; `away`: the sources that
        parameter sets cannot count on now; `explain`: with the trace of the decision.
        """
        attributes = attributes or _NOTHING
        definitions = self._refresh.definitions
        found = definitions.assign(experiment, units, attributes, away=away, explain=explain)
        if found.in_experiment:
            if log and self._exposures is not None:
                dimensions = definitions.plans[experiment].definition.dimensions
                self._exposures.log(found, attributes, dimensions)
        elif found.version == 0 and not self._refresh.loaded:
            return self._without_definitions(found)
        elif found.reason is Reason.FAILED:
            self._count_failed()
        return found

    def assign_all(
        self,
        units: Units,
        attributes: Mapping[str, Any] | None = None,
        *,
        log: bool = True,
        away: Collection[str] = (),
    ) -> list[Assignment]:
        """Of every experiment that runs, each logged as by `assign`."""
        attributes = attributes or _NOTHING
        definitions = self._refresh.definitions
        all_found = definitions.assign_all(units, attributes, away=away)
        for found in all_found:
            if found.in_experiment:
                if log and self._exposures is not None:
                    dimensions = definitions.plans[found.experiment].definition.dimensions
                    self._exposures.log(found, attributes, dimensions)
            elif found.reason is Reason.FAILED:
                self._count_failed()
        return all_found

    def wait(self, timeout: float) -> bool:
        """Until there are definitions, for some seconds at most. Whether there are.

        In asyncio: `await asyncio.to_thread(experiments.wait, 5)`.
        """
        return self._refresh.wait(timeout)

    @property
    def definitions(self) -> DefinitionSet:
        """Those in use now; `unusable` tells which cannot be."""
        return self._refresh.definitions

    @property
    def revision(self) -> int:
        """Of the definitions in use; 0 without any."""
        return self._refresh.revision

    @property
    def age_seconds(self) -> float | None:
        """Since the definitions in use were last known to be the newest; None without any."""
        return self._refresh.age_seconds

    @property
    def problem(self) -> str | None:
        """What keeps the definitions from being up to date, as a sentence; None when they are."""
        return self._refresh.problem

    @property
    def streaming(self) -> bool:
        """Whether the service tells of changes as they happen; else it is asked."""
        return self._refresh.streaming

    @property
    def counters(self) -> ExperimentsCounters:
        """As they are now."""
        now, log = ExperimentsCounters(), self._exposures
        now.refreshes = self._refresh.refreshes
        now.failures = self._refresh.failures
        now.invalid_params = self._refresh.invalid_params.copy()
        now.failed = self._failed
        if log is not None:
            now.exposures_logged = log.logged
            now.exposures_repeated = log.memory.repeated
            now.exposures_refused = log.refused
            now.dimensions_left_out = log.dimensions_left_out
        return now

    def close(self) -> None:
        """No more is refreshed. Assignments go on with the definitions that there are."""
        process.let_go(self)
        self._refresh.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _without_definitions(self, found: Assignment) -> Assignment:
        problem = self._refresh.problem or "there are no definitions yet"
        return Assignment(
            found.experiment, 0, "", _NOTHING, Reason.FAILED, found.unit, problem[:200]
        )

    def _count_failed(self) -> None:
        with self._lock:
            self._failed += 1

    def _begin(self) -> None:
        settings = self.settings
        # Reentrant: a signal handler may assign in the middle of an assignment.
        self._lock = threading.RLock()
        self._failed = 0
        self._exposures: ExposureLog | None = None
        if self._emitter is not None:
            self._exposures = ExposureLog(
                self._emitter,
                ExposureMemory(settings.remembered_exposures, settings.exposure_window_seconds),
                settings.source or f"anabranch-python/{_version()}",
            )

    def flush_now(self, timeout: float) -> None:
        """At SIGTERM: nothing is kept here that has to go anywhere."""

    def end_now(self) -> None:
        """At the end of the process."""
        self.close()

    def begin_again(self) -> None:
        """In a forked child: its own threads, memory and figures, and the same definitions."""
        self._begin()
        self._refresh.begin_again()


def _settings(**given: Any) -> ExperimentsSettings:
    try:
        return ExperimentsSettings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "experiments"
        sentence = f"{name}: {first['msg'].removeprefix('Value error, ')}"
        raise ExperimentsSettingsError(sentence) from None  # may hold a secret


def _version() -> str:
    try:
        return importlib.metadata.version("anabranch")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
