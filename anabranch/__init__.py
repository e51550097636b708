"""What does a service import?

The SDK: typed events, the emitter that never blocks or breaks the request path, pseudonyms.

    from anabranch import Pseudonyms, SyncEmitter, Exposure

    pseudonyms = Pseudonyms(key)                     # 32 secret bytes, the same in every service
    emitter = SyncEmitter.from_environment()         # ANABRANCH_KAFKA__BOOTSTRAP=..., and so on

    player = pseudonyms.player("jo@example.com")
    emitter.emit(Exposure(exposure_id="x1", experiment="npc_tone", version=1,
                          variation="warm", unit=player))
    emitter.flush()                                  # not needed: the end of the process does it
    print(emitter.counters.delivered, emitter.counters.dropped)

In asyncio: `Emitter`, whose `flush` and `close` are awaited. Errors:

* AnabranchError
  + InvalidEventError          strict mode: the event breaks its schema's meaning
    + PersonalIdentifierError  strict mode: an id is a raw e-mail address or phone number
  + PseudonymKeyError          the key of pseudonyms is too short
  + EmitterSettingsError       an emitter's settings cannot work, or name nothing
  + ConditionError             a targeting condition cannot mean anything; says where and why

Outside strict mode an emitter raises only when it is made.
"""

from anabranch.counters import REASONS, Counters, Reason
from anabranch.emitter import Emitter, SyncEmitter
from anabranch.errors import (
    AnabranchError,
    EmitterSettingsError,
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
from anabranch.fields import Event, milliseconds
from anabranch.pseudonyms import Pseudonyms, is_pseudonym
from anabranch.settings import EmitterSettings, KafkaSettings, RegistrySettings

__all__ = [
    "EVENT_TYPES",
    "REASONS",
    "AnabranchError",
    "Counters",
    "Emitter",
    "EmitterSettings",
    "EmitterSettingsError",
    "Event",
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
