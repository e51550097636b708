"""What does a service import?

The SDK: assignment in process, typed events, the emitter that never blocks or breaks the request
path, pseudonyms.

    from anabranch import Experiments, ExposureRef, Pseudonyms, SyncEmitter, TurnMetric

    pseudonyms = Pseudonyms(key)                     # 32 secret bytes, the same in every service
    emitter = SyncEmitter.from_environment()         # ANABRANCH_KAFKA__BOOTSTRAP=..., and so on
    experiments = Experiments.from_url("http://127.0.0.1:8080", api_key, emitter=emitter)
    experiments.wait(5)                              # for the first definitions

    session = pseudonyms.session("s-4711")
    tone = experiments.assign("npc_tone", session, {"locale": "en", "level": 12})
    prompt = tone.params.get("tone", "neutral")      # the exposure is on its way
    emitter.emit(TurnMetric(session=session, player=pseudonyms.player("jo@example.com"),
                            turn_ms=812, exposures=(ExposureRef(
                                experiment=tone.experiment, version=tone.version,
                                variation=tone.variation, unit=tone.unit),)))
    emitter.flush()                                  # not needed: the end of the process does it
    print(emitter.counters.delivered, emitter.counters.dropped, experiments.problem)

In asyncio: `Emitter`, whose `flush` and `close` are awaited; `Experiments` is the same. Errors:

* AnabranchError
  + InvalidEventError          strict mode: the event breaks its schema's meaning
    + PersonalIdentifierError  strict mode: an id is a raw e-mail address or phone number
  + PseudonymKeyError          the key of pseudonyms is too short
  + EmitterSettingsError       an emitter's settings cannot work, or name nothing
  + ExperimentsSettingsError   the settings of assignment cannot work, or name nothing
  + ConditionError             a targeting condition cannot mean anything; says where and why

Outside strict mode an emitter and `Experiments` raise only when they are made.
"""

from anabranch.assignment import Assignment
from anabranch.assignment import Reason as AssignmentReason
from anabranch.counters import REASONS, Counters, Reason
from anabranch.emitter import Emitter, SyncEmitter
from anabranch.errors import (
    AnabranchError,
    ConditionError,
    EmitterSettingsError,
    ExperimentsSettingsError,
    InvalidEventError,
    PersonalIdentifierError,
    PseudonymKeyError,
)
from anabranch.events import (
    EVENT_TYPES,
    Exposure,
    ExposureRef,
    Invite,
    Outcome,
    TurnMetric,
)
from anabranch.experiments import Experiments, ExperimentsCounters
from anabranch.fields import Event, milliseconds
from anabranch.pseudonyms import Pseudonyms, is_pseudonym
from anabranch.settings import (
    EmitterSettings,
    ExperimentsSettings,
    KafkaSettings,
    RegistrySettings,
)

__all__ = [
    "EVENT_TYPES",
    "REASONS",
    "AnabranchError",
    "Assignment",
    "AssignmentReason",
    "ConditionError",
    "Counters",
    "Emitter",
    "EmitterSettings",
    "EmitterSettingsError",
    "Event",
    "Experiments",
    "ExperimentsCounters",
    "ExperimentsSettings",
    "ExperimentsSettingsError",
    "Exposure",
    "ExposureRef",
    "InvalidEventError",
    "Invite",
    "KafkaSettings",
    "Outcome",
    "PersonalIdentifierError",
    "PseudonymKeyError",
    "Pseudonyms",
    "Reason",
    "RegistrySettings",
    "SyncEmitter",
    "TurnMetric",
    "is_pseudonym",
    "milliseconds",
]
