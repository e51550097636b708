"""Keeps definitions up to date, in a thread of its own, whatever becomes of their source.

The definitions that were last known to be good stay in use. A change that was told is fetched at
once; what nobody tells is found by asking from time to time.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable

from anabranch.change_stream import ChangeStream, Streams
from anabranch.definition_set import DefinitionSet
from anabranch.definition_sources import Copy, Snapshot, Source, SourceError
from anabranch.parameters import Adjusted
from anabranch.plans import Plan, Status

logger = logging.getLogger("anabranch")

_LONGEST_WAIT_SECONDS = 30.0
_FIRST_WAIT_SECONDS = 0.25
_WHILE_TOLD_SECONDS = 30.0
"""How often is asked while the stream tells of changes: only in case that it does not."""
_CONFIRM_COPY_SECONDS = 30.0
_BELIEVED_AFTER = 3
_ASSIGNED = frozenset({Status.RUNNING, Status.SCHEDULED})

InvalidParams = Counter[tuple[str, str, Adjusted]]
"""By experiment, parameter and reason."""


class DefinitionRefresh:
    """`definitions` is replaced as a whole, so whoever took it goes on undisturbed."""

    def __init__(
        self,
        source: Source,
        *,
        poll_seconds: float,
        copy: Copy | None = None,
        streams: Streams | None = None,
    ) -> None:
        self.definitions = DefinitionSet()
        self.revision = 0
        self.refreshes = 0
        self.failures = 0
        self.invalid_params: InvalidParams = Counter()
        self._source = source
        self._poll_seconds = poll_seconds
        self._copy = copy
        self._streams = streams
        self._etag = ""
        self._confirmed_at: float | None = None  # monotonic, of definitions that are in use
        self._copied_at = 0.0
        self._failure: str | None = None
        self._copy_failure: str | None = None
        self._failures_in_a_row = 0
        self._older_in_a_row = 0
        self._told = 0  # the newest revision that the stream told of
        self._asked_for_told = 0
        self._reported: dict[str, object] = {}
        self._new_events()

    def _new_events(self) -> None:
        self._stream = None if self._streams is None else ChangeStream(self._streams, self._changed)
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._loaded = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="anabranch-definitions", daemon=True).start()
        if self._stream is not None:
            self._stream.start()

    def end(self) -> None:
        self._ended.set()
        self._wake.set()
        if self._stream is not None:
            self._stream.end()

    def begin_again(self) -> None:
        """In a forked child, where no thread of the parent's goes on."""
        ended, loaded = self._ended.is_set(), self.loaded
        self._new_events()
        self.refreshes = self.failures = 0
        self.invalid_params = Counter()
        if loaded:
            self._loaded.set()
        if ended:
            self._ended.set()
        else:
            self.start()

    @property
    def loaded(self) -> bool:
        return self._confirmed_at is not None

    @property
    def age_seconds(self) -> float | None:
        """Since the definitions in use were last known to be the newest; None without any."""
        confirmed_at = self._confirmed_at
        return None if confirmed_at is None else max(0.0, time.monotonic() - confirmed_at)

    @property
    def problem(self) -> str | None:
        failure, age = self._failure, self.age_seconds
        if failure is None:
            return self._copy_failure
        if age is None:
            return f"{failure}; there are no definitions yet"
        return f"{failure}; revision {self.revision} goes on, {age:.0f} s old"

    @property
    def streaming(self) -> bool:
        return self._stream is not None and self._stream.live

    def wait(self, timeout: float) -> bool:
        """Until there are definitions. Whether there are."""
        return self.loaded or self._loaded.wait(timeout)

    def read_copy(self) -> None:
        """What was kept on disk, if anything was; not to be read is a problem, and no more."""
        if self._copy is None:
            return
        try:
            found = self._copy.read()
            if found is not None:
                snapshot, age = found
                self._take(snapshot)
                self._confirm(age)
        except SourceError as error:
            self._copy_problem(f"the copy of the definitions is of no use: {error}")

    def read_now(self) -> None:
        """Raises SourceError when there is nothing to go on with."""
        snapshot = self._source.fetch("")
        assert snapshot is not None
        self._take(snapshot)
        self._confirm()

    def _run(self) -> None:
        ended, wake = self._ended, self._wake  # those of a forked child are others
        while not ended.is_set():
            wake.clear()
            wake.wait(self.refresh_once())

    def refresh_once(self) -> float:
        """Returns how long to wait before the next, in seconds."""
        try:
            snapshot = self._source.fetch(self._etag)
            if snapshot is not None and self._is_of_a_laggard(snapshot):
                snapshot = None
            if snapshot is not None:
                self._take(snapshot)
        except SourceError as error:
            return self._failed(str(error))
        except Exception as error:
            # The top of the thread: it must outlive what nobody thought of.
            if self._failure is None:
                logger.exception("definitions could not be taken")
            return self._failed(f"definitions could not be taken: {type(error).__name__}: {error}")
        self._confirm()
        self._keep_copy(snapshot)
        return self._wait_after_success()

    def _wait_after_success(self) -> float:
        if self._told > self.revision and self._asked_for_told < 7:
            # Another replica answered than the one that told: it will know in a moment.
            self._asked_for_told += 1
            return 0.02 * 2.0**self._asked_for_told
        usual = self._poll_seconds
        if self.streaming and not self._older_in_a_row:
            usual = max(usual, _WHILE_TOLD_SECONDS)
        return usual * random.uniform(0.9, 1.1)  # noqa: S311

    def _is_of_a_laggard(self, snapshot: Snapshot) -> bool:
        """An older revision is that of a replica that is behind, or of a log begun anew.

        So it is believed once it is all that is answered for some time.
        """
        if self._streams is None or not self.loaded or snapshot.revision >= self.revision:
            self._older_in_a_row = 0
            return False
        self._older_in_a_row += 1
        if self._older_in_a_row < _BELIEVED_AFTER:
            return True
        logger.warning(
            "definitions went back from revision %d to %d", self.revision, snapshot.revision
        )
        self._older_in_a_row = self._told = 0
        return False

    def _take(self, snapshot: Snapshot) -> None:
        before = self.definitions
        known = {document.key: document for document in before.documents()}
        new = {document.key: document for document in snapshot.documents}
        try:
            if known.keys() <= new.keys():
                changed = [document for key, document in new.items() if known.get(key) != document]
                made = before.with_changes(changed) if changed else before
            else:
                made = DefinitionSet(new)
        except Exception as error:
            # Documents of a later release may hold anything. What is in use stays in use.
            sentence = (
                f"revision {snapshot.revision} cannot be read: {type(error).__name__} {error}"
            )
            raise SourceError(sentence) from error
        self.definitions, self.revision, self._etag = made, snapshot.revision, snapshot.etag
        self.refreshes += 1
        self._report(before, made)

    def _report(self, before: DefinitionSet, made: DefinitionSet) -> None:
        """What of the definitions cannot be used as it is written, once for each version."""
        for key, unusable in made.unusable.items():
            if before.unusable.get(key) != unusable:
                text = "version %d of %s cannot be used: %s"
                logger.warning(text, unusable.version, key, unusable.problem)
        for key, plan in made.plans.items():
            if plan is not before.plans.get(key) and plan.status in _ASSIGNED:
                self._report_params(key, plan)
        for gone in self._reported.keys() - made.plans.keys():
            del self._reported[gone]

    def _report_params(self, key: str, plan: Plan) -> None:
        found = {
            (one.parameter, one.reason): one.sentence
            for index in range(len(plan.keys))
            for one in plan.params(index).adjustments
        }
        # The limits may change and not the experiment: then it is told anew.
        told = (plan.version, frozenset(found))
        if found and self._reported.get(key) != told:
            self.invalid_params.update((key, parameter, reason) for parameter, reason in found)
            sentences = "; ".join(found.values())
            logger.warning("parameters of %s, version %d: %s", key, plan.version, sentences)
        self._reported[key] = told

    def _confirm(self, age: float = 0.0) -> None:
        if self._failure is not None:
            logger.info("definitions are there again, revision %d", self.revision)
        self._failure = None
        self._failures_in_a_row = 0
        self._confirmed_at = time.monotonic() - age
        self._loaded.set()

    def _keep_copy(self, snapshot: Snapshot | None) -> None:
        """Written when it is another one, and confirmed from time to time when it is not."""
        copy, now = self._copy, time.monotonic()
        if copy is None:
            return
        if snapshot is not None:
            self._on_disk(lambda: copy.write(snapshot.body))
        elif self._copied_at + _CONFIRM_COPY_SECONDS < now:
            self._on_disk(copy.confirm)

    def _on_disk(self, act: Callable[[], None]) -> None:
        self._copied_at = time.monotonic()
        try:
            act()
        except OSError as error:
            self._copy_problem(f"no copy of the definitions can be kept: {error}")
        else:
            self._copy_failure = None

    def _copy_problem(self, problem: str) -> None:
        if problem != self._copy_failure:
            logger.warning("%s", problem)
        self._copy_failure = problem

    def _failed(self, failure: str) -> float:
        self.failures += 1
        self._failures_in_a_row += 1
        is_new = failure != self._failure
        self._failure = failure
        if is_new:
            logger.warning("%s", self.problem)
        doubled = _FIRST_WAIT_SECONDS * 2.0 ** min(self._failures_in_a_row, 10)
        longest = max(_LONGEST_WAIT_SECONDS, self._poll_seconds)
        return min(longest, doubled) * random.uniform(0.5, 1)  # noqa: S311

    def _changed(self, revision: int) -> None:
        """From the stream."""
        if revision > self._told:
            self._told, self._asked_for_told = revision, 0
        if not revision or revision > self.revision:
            self._wake.set()
