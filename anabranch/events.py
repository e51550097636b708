"""The events, as frozen values that know what is wrong with them.

Written by `make schemas` from `schemas/*.avsc`; change those.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from anabranch import event_schemas
from anabranch.fields import (
    LINE,
    LINES,
    Event,
    Moment,
    choice_problem,
    integer_problem,
    lines_problem,
    new_id,
    now_ms,
    number_problem,
    pairs_problem,
    records_problem,
    text_problem,
    texts_problem,
    time_problem,
)

# A misspelt field is refused instead of being lost.
_FORBID_UNKNOWN = ConfigDict(extra="forbid")

_EXPERIMENT = re.compile("^[A-Za-z0-9_][A-Za-z0-9_.:-]*$")
_LOCALE = re.compile("^([A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*)?$")
_REPLY_TO = re.compile("^[A-Za-z0-9._-]*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureRef:
    """Which variation of which experiment a unit was in."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID_UNKNOWN
    experiment: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=128,
            pattern="^[A-Za-z0-9_][A-Za-z0-9_.:-]*$",
            description="Key of the experiment.",
            examples=["npc_tone"],
        ),
    ]
    version: Annotated[
        int,
        Field(
            strict=True,
            ge=1,
            le=1_000_000,
            description="Version of the definition that decided; the first is 1.",
            examples=[3],
        ),
    ]
    variation: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=128,
            pattern="^[A-Za-z0-9_][A-Za-z0-9_.:-]*$",
            description="Key of the variation that the unit got.",
            examples=["warm"],
        ),
    ]
    unit: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=256,
            pattern=LINE,
            description=(
                "What is randomised: a session, a player or another id, as a pseudonym; "
                "never a personal identifier."
            ),
            examples=["mfrggzdfmztwq2lk"],
        ),
    ]

    def problem(self) -> str | None:
        return (
            text_problem("experiment", self.experiment, 1, 128, _EXPERIMENT)
            or integer_problem("version", self.version, 1, 1_000_000)
            or text_problem("variation", self.variation, 1, 128, _EXPERIMENT)
            or text_problem("unit", self.unit, 1, 256)
        )

    def avro(self) -> dict[str, Any]:
        return {
            "experiment": self.experiment,
            "version": self.version,
            "variation": self.variation,
            "unit": self.unit,
        }


def _attribute_problem(name: object, value: object) -> str | None:
    return text_problem("name", name, 1, 128) or text_problem("value", value, 0, 1_024)


def _measurement_problem(name: object, value: object) -> str | None:
    return text_problem("name", name, 1, 128, _EXPERIMENT) or number_problem(
        "value", value, -1e15, 1e15
    )


def _dimension_problem(name: object, value: object) -> str | None:
    return text_problem("name", name, 1, 128, _EXPERIMENT) or text_problem("value", value, 0, 1_024)


def _experiments_item_problem(item: object) -> str | None:
    return text_problem("item", item, 1, 128, _EXPERIMENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure(Event):
    """A unit met a variation of an experiment.

    Logged when the variation takes effect; the same exposure logged again carries the same
    exposure_id.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID_UNKNOWN
    TYPE: ClassVar[str] = "exposure"
    TOPIC: ClassVar[str] = "exposures.v1"
    KEY: ClassVar[str] = "unit"
    SCHEMA: ClassVar[str] = event_schemas.EXPOSURE
    event_id: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=256,
            pattern=LINE,
            description=(
                "Identifies this event for good; a random one when absent. An event sent "
                "twice carries the same."
            ),
            examples=["6f1c0f5e8f6b4f0f9a4f3c1d2b7e9a10"],
        ),
    ] = field(default_factory=new_id)
    ts: Annotated[
        Moment,
        Field(
            description=(
                "When it happened: event time, UTC; the present when absent. Unit: ms "
                "since 1970-01-01T00:00:00Z."
            ),
            examples=[1_767_225_600_000],
        ),
    ] = field(default_factory=now_ms)
    exposure_id: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=256,
            pattern=LINE,
            description=(
                "The same for the same experiment, version and unit, so that a repeated "
                "exposure is recognised."
            ),
            examples=["3f9c2a1b7d6e4f50"],
        ),
    ]
    experiment: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=128,
            pattern="^[A-Za-z0-9_][A-Za-z0-9_.:-]*$",
            description="Key of the experiment.",
            examples=["npc_tone"],
        ),
    ]
    version: Annotated[
        int,
        Field(
            strict=True,
            ge=1,
            le=1_000_000,
            description="Version of the definition that decided; the first is 1.",
            examples=[3],
        ),
    ]
    variation: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=128,
            pattern="^[A-Za-z0-9_][A-Za-z0-9_.:-]*$",
            description="Key of the variation that the unit got.",
            examples=["warm"],
        ),
    ]
    unit: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=256,
            pattern=LINE,
            description=(
                "What is randomised: a session, a player or another id, as a pseudonym; "
                "never a personal identifier."
            ),
            examples=["mfrggzdfmztwq2lk"],
        ),
    ]
    locale: Annotated[
        str,
        Field(
            strict=True,
            max_length=35,
            pattern="^([A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*)?$",
            description="Language of the unit as a BCP 47 tag; empty when unknown.",
            examples=["pt-BR"],
        ),
    ] = ""
    attributes: Annotated[
        Mapping[
            Annotated[str, Field(strict=True, min_length=1, max_length=128, pattern=LINE)],
            Annotated[str, Field(strict=True, max_length=1_024, pattern=LINE)],
        ],
        Field(
            max_length=64,
            description="What was known of the unit when the variation was chosen.",
            examples=[{"locale": "en", "level": "12"}],
        ),
    ] = field(default_factory=dict)
    source: Annotated[
        str,
        Field(
            strict=True,
            max_length=128,
            pattern=LINE,
            description=(
                "What logged it: a service or an SDK, with its version; empty when unknown."
            ),
            examples=["dialogue-service/2.4"],
        ),
    ] = ""

    def problem(self, now_ms: int) -> str | None:
        return (
            text_problem("event_id", self.event_id, 1, 256)
            or time_problem("ts", self.ts, now_ms, 400, 10)
            or text_problem("exposure_id", self.exposure_id, 1, 256)
            or text_problem("experiment", self.experiment, 1, 128, _EXPERIMENT)
            or integer_problem("version", self.version, 1, 1_000_000)
            or text_problem("variation", self.variation, 1, 128, _EXPERIMENT)
            or text_problem("unit", self.unit, 1, 256)
            or text_problem("locale", self.locale, 0, 35, _LOCALE)
            or pairs_problem("attributes", self.attributes, 0, 64, _attribute_problem)
            or text_problem("source", self.source, 0, 128)
        )

    def avro(self) -> dict[str, Any]:
        return {
            "event_id": self.event_id,
            "ts": self.ts,
            "exposure_id": self.exposure_id,
            "experiment": self.experiment,
            "version": self.version,
            "variation": self.variation,
            "unit": self.unit,
            "locale": self.locale,
            "attributes": [
                {"name": name, "value": value} for name, value in self.attributes.items()
            ],
            "source": self.source,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnMetric(Event):
    """One turn of a session: what it cost and what it did."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID_UNKNOWN
    TYPE: ClassVar[str] = "turn_metric"
    TOPIC: ClassVar[str] = "turn-metrics.v1"
    KEY: ClassVar[str] = "session"
    SCHEMA: ClassVar[str] = event_schemas.TURN_METRIC
    event_id: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=256,
            pattern=LINE,
            description=(
                "Identifies this event for good; a random one when absent. An event sent "
                "twice carries the same."
            ),
            examples=["6f1c0f5e8f6b4f0f9a4f3c1d2b7e9a10"],
        ),
    ] = field(default_factory=new_id)
    ts: Annotated[
        Moment,
        Field(
            description=(
                "When it happened: event time, UTC; the present when absent. Unit: ms "
                "since 1970-01-01T00:00:00Z."
            ),
            examples=[1_767_225_600_000],
        ),
    ] = field(default_factory=now_ms)
    session: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=256,
            pattern=LINE,
            description="The session that the turn belongs to, as a pseudonym.",
            examples=["s-7f3a"],
        ),
    ]
    player: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=256,
            pattern=LINE,
            description="The player whose turn it was, as a pseudonym.",
            examples=["mfrggzdfmztwq2lk"],
        ),
    ]
    locale: Annotated[
        str,
        Field(
            strict=True,
            max_length=35,
            pattern="^([A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*)?$",
            description="Language of the session as a BCP 47 tag; empty when unknown.",
            examples=["pt-BR"],
        ),
    ] = ""
    exposures: Annotated[
        tuple[ExposureRef, ...],
        Field(
            max_length=64,
            description=(
                "The experiments that shaped this turn. It counts once for each of them; "
                "none: it counts for no experiment."
            ),
        ),
    ] = ()
    turn_ms: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=86_400_000,
            description=(
                "Wall time of the whole turn, from the player's input to the last output. Unit: ms."
            ),
            examples=[812],
        ),
    ]
    model_ms: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=86_400_000,
            description=(
                "Time spent waiting for models in this turn, summed over calls; parallel "
                "calls may exceed turn_ms. Unit: ms."
            ),
            examples=[640],
        ),
    ]
    bundle_tokens: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=100_000_000,
            description="Size of the context bundle given to the model. Unit: tokens.",
            examples=[2_150],
        ),
    ]
    output_tokens: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=100_000_000,
            description="Tokens that models wrote in this turn. Unit: tokens.",
            examples=[187],
        ),
    ]
    retries: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=10_000,
            description="Model calls repeated after a failure. Unit: count.",
            examples=[0],
        ),
    ]
    fallbacks: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=10_000,
            description=(
                "Times that a cheaper or canned answer stood in for the model's. Unit: count."
            ),
            examples=[0],
        ),
    ]
    tool_calls: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=100_000,
            description="Tools called by models. Unit: count.",
            examples=[2],
        ),
    ]
    acts: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=100_000,
            description="Acts performed by characters. Unit: count.",
            examples=[1],
        ),
    ]
    choices: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=100_000,
            description="Choices offered to the player. Unit: count.",
            examples=[3],
        ),
    ]
    time_ticks: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=1_000_000_000,
            description="How far the story's own clock went on. Unit: ticks.",
            examples=[1],
        ),
    ]

    def problem(self, now_ms: int) -> str | None:
        return (
            text_problem("event_id", self.event_id, 1, 256)
            or time_problem("ts", self.ts, now_ms, 400, 10)
            or text_problem("session", self.session, 1, 256)
            or text_problem("player", self.player, 1, 256)
            or text_problem("locale", self.locale, 0, 35, _LOCALE)
            or records_problem("exposures", self.exposures, 0, 64, ExposureRef)
            or integer_problem("turn_ms", self.turn_ms, 0, 86_400_000)
            or integer_problem("model_ms", self.model_ms, 0, 86_400_000)
            or integer_problem("bundle_tokens", self.bundle_tokens, 0, 100_000_000)
            or integer_problem("output_tokens", self.output_tokens, 0, 100_000_000)
            or integer_problem("retries", self.retries, 0, 10_000)
            or integer_problem("fallbacks", self.fallbacks, 0, 10_000)
            or integer_problem("tool_calls", self.tool_calls, 0, 100_000)
            or integer_problem("acts", self.acts, 0, 100_000)
            or integer_problem("choices", self.choices, 0, 100_000)
            or integer_problem("time_ticks", self.time_ticks, 0, 1_000_000_000)
        )

    def avro(self) -> dict[str, Any]:
        return {
            "event_id": self.event_id,
            "ts": self.ts,
            "session": self.session,
            "player": self.player,
            "locale": self.locale,
            "exposures": [item.avro() for item in self.exposures],
            "turn_ms": self.turn_ms,
            "model_ms": self.model_ms,
            "bundle_tokens": self.bundle_tokens,
            "output_tokens": self.output_tokens,
            "retries": self.retries,
            "fallbacks": self.fallbacks,
            "tool_calls": self.tool_calls,
            "acts": self.acts,
            "choices": self.choices,
            "time_ticks": self.time_ticks,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Invite(Event):
    """A step of an invitation: it was sent, somebody joined by it, or the one who joined
    reached the first moment of value."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID_UNKNOWN
    TYPE: ClassVar[str] = "invite"
    TOPIC: ClassVar[str] = "invites.v1"
    KEY: ClassVar[str] = "inviter"
    SCHEMA: ClassVar[str] = event_schemas.INVITE
    event_id: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=256,
            pattern=LINE,
            description=(
                "Identifies this event for good; a random one when absent. An event sent "
                "twice carries the same."
            ),
            examples=["6f1c0f5e8f6b4f0f9a4f3c1d2b7e9a10"],
        ),
    ] = field(default_factory=new_id)
    ts: Annotated[
        Moment,
        Field(
            description=(
                "When it happened: event time, UTC; the present when absent. Unit: ms "
                "since 1970-01-01T00:00:00Z."
            ),
            examples=[1_767_225_600_000],
        ),
    ] = field(default_factory=now_ms)
    kind: Annotated[
        Literal["sent", "joined", "fvm"],
        Field(
            description=(
                "The step: sent, joined, or fvm (the first valuable moment of the "
                "invitee). A later version may add steps; readers keep those they do not "
                "know."
            ),
            examples=["joined"],
        ),
    ]
    invite_id: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=256,
            pattern=LINE,
            description="Identifies the invitation; the same in each of its steps.",
            examples=["inv-19c2"],
        ),
    ]
    loop: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=128,
            pattern="^[A-Za-z0-9_][A-Za-z0-9_.:-]*$",
            description="Name of the growth loop that it belongs to.",
            examples=["share_story"],
        ),
    ]
    inviter: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=256,
            pattern=LINE,
            description="Who invited, as a pseudonym.",
            examples=["mfrggzdfmztwq2lk"],
        ),
    ]
    invitee: (
        Annotated[
            str,
            Field(
                strict=True,
                min_length=1,
                max_length=256,
                pattern=LINE,
                description="Who was invited, as a pseudonym; null until they joined.",
                examples=["nbswy3dpo5xxe3de"],
            ),
        ]
        | None
    ) = None
    smart_link_code: Annotated[
        str,
        Field(
            strict=True,
            max_length=256,
            pattern=LINE,
            description="Code of the link that carried it; empty when there was none.",
            examples=["k7Qp2"],
        ),
    ] = ""
    locale: Annotated[
        str,
        Field(
            strict=True,
            max_length=35,
            pattern="^([A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*)?$",
            description="Language of the inviter as a BCP 47 tag; empty when unknown.",
            examples=["pt-BR"],
        ),
    ] = ""
    exposures: Annotated[
        tuple[ExposureRef, ...],
        Field(max_length=64, description="The experiments that the inviter was in."),
    ] = ()

    def problem(self, now_ms: int) -> str | None:
        return (
            text_problem("event_id", self.event_id, 1, 256)
            or time_problem("ts", self.ts, now_ms, 400, 10)
            or choice_problem("kind", self.kind, ("sent", "joined", "fvm"))
            or text_problem("invite_id", self.invite_id, 1, 256)
            or text_problem("loop", self.loop, 1, 128, _EXPERIMENT)
            or text_problem("inviter", self.inviter, 1, 256)
            or (None if self.invitee is None else text_problem("invitee", self.invitee, 1, 256))
            or text_problem("smart_link_code", self.smart_link_code, 0, 256)
            or text_problem("locale", self.locale, 0, 35, _LOCALE)
            or records_problem("exposures", self.exposures, 0, 64, ExposureRef)
        )

    def avro(self) -> dict[str, Any]:
        return {
            "event_id": self.event_id,
            "ts": self.ts,
            "kind": self.kind,
            "invite_id": self.invite_id,
            "loop": self.loop,
            "inviter": self.inviter,
            "invitee": self.invitee,
            "smart_link_code": self.smart_link_code,
            "locale": self.locale,
            "exposures": [item.avro() for item in self.exposures],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Event):
    """Something that a service measured of a unit: a conversion, a cost, a completeness, a
    confidence, an edit, anything."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID_UNKNOWN
    TYPE: ClassVar[str] = "outcome"
    TOPIC: ClassVar[str] = "outcomes.v1"
    KEY: ClassVar[str] = "unit"
    SCHEMA: ClassVar[str] = event_schemas.OUTCOME
    event_id: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=256,
            pattern=LINE,
            description=(
                "Identifies this event for good; a random one when absent. An event sent "
                "twice carries the same."
            ),
            examples=["6f1c0f5e8f6b4f0f9a4f3c1d2b7e9a10"],
        ),
    ] = field(default_factory=new_id)
    ts: Annotated[
        Moment,
        Field(
            description=(
                "When it happened: event time, UTC; the present when absent. Unit: ms "
                "since 1970-01-01T00:00:00Z."
            ),
            examples=[1_767_225_600_000],
        ),
    ] = field(default_factory=now_ms)
    unit: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=256,
            pattern=LINE,
            description="Whom the values belong to: the unit of an exposure, as a pseudonym.",
            examples=["mfrggzdfmztwq2lk"],
        ),
    ]
    values: Annotated[
        Mapping[
            Annotated[
                str,
                Field(
                    strict=True,
                    min_length=1,
                    max_length=128,
                    pattern="^[A-Za-z0-9_][A-Za-z0-9_.:-]*$",
                ),
            ],
            Annotated[float, Field(strict=True, ge=-1e15, le=1e15, allow_inf_nan=False)],
        ],
        Field(
            min_length=1,
            max_length=64,
            description="What was measured, by name; 1 for a conversion. At least one.",
            examples=[{"purchase": 1, "revenue_eur": 4.99}],
        ),
    ]
    dimensions: Annotated[
        Mapping[
            Annotated[
                str,
                Field(
                    strict=True,
                    min_length=1,
                    max_length=128,
                    pattern="^[A-Za-z0-9_][A-Za-z0-9_.:-]*$",
                ),
            ],
            Annotated[str, Field(strict=True, max_length=1_024, pattern=LINE)],
        ],
        Field(
            max_length=64,
            description="What the values can be told apart by.",
            examples=[{"platform": "ios"}],
        ),
    ] = field(default_factory=dict)

    def problem(self, now_ms: int) -> str | None:
        return (
            text_problem("event_id", self.event_id, 1, 256)
            or time_problem("ts", self.ts, now_ms, 400, 10)
            or text_problem("unit", self.unit, 1, 256)
            or pairs_problem("values", self.values, 1, 64, _measurement_problem)
            or pairs_problem("dimensions", self.dimensions, 0, 64, _dimension_problem)
        )

    def avro(self) -> dict[str, Any]:
        return {
            "event_id": self.event_id,
            "ts": self.ts,
            "unit": self.unit,
            "values": [{"name": name, "value": value} for name, value in self.values.items()],
            "dimensions": [
                {"name": name, "value": value} for name, value in self.dimensions.items()
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentRequest(Event):
    """A unit asks for its variations over Kafka."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID_UNKNOWN
    TYPE: ClassVar[str] = "assignment_request"
    TOPIC: ClassVar[str] = "assignment-requests.v1"
    KEY: ClassVar[str] = "unit"
    SCHEMA: ClassVar[str] = event_schemas.ASSIGNMENT_REQUEST
    request_id: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=256,
            pattern=LINE,
            description="Identifies the request; every answer carries it.",
            examples=["req-51d0"],
        ),
    ] = field(default_factory=new_id)
    ts: Annotated[
        Moment,
        Field(
            description=(
                "When it was asked: event time, UTC; the present when absent. Unit: ms "
                "since 1970-01-01T00:00:00Z."
            ),
            examples=[1_767_225_600_000],
        ),
    ] = field(default_factory=now_ms)
    unit: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=256,
            pattern=LINE,
            description="Who asks: the unit to assign, as a pseudonym.",
            examples=["mfrggzdfmztwq2lk"],
        ),
    ]
    attributes: Annotated[
        Mapping[
            Annotated[str, Field(strict=True, min_length=1, max_length=128, pattern=LINE)],
            Annotated[str, Field(strict=True, max_length=1_024, pattern=LINE)],
        ],
        Field(
            max_length=64,
            description="What is known of the unit, for targeting.",
            examples=[{"locale": "en", "level": "12"}],
        ),
    ] = field(default_factory=dict)
    experiments: Annotated[
        tuple[
            Annotated[
                str,
                Field(
                    strict=True,
                    min_length=1,
                    max_length=128,
                    pattern="^[A-Za-z0-9_][A-Za-z0-9_.:-]*$",
                ),
            ],
            ...,
        ],
        Field(
            max_length=256,
            description="Keys of the experiments to decide; empty for all that run.",
            examples=[["npc_tone"]],
        ),
    ] = ()
    reply_to: Annotated[
        str,
        Field(
            strict=True,
            max_length=249,
            pattern="^[A-Za-z0-9._-]*$",
            description="Topic for the answers; empty for assignments.v1.",
        ),
    ] = ""

    def problem(self, now_ms: int) -> str | None:
        return (
            text_problem("request_id", self.request_id, 1, 256)
            or time_problem("ts", self.ts, now_ms, 400, 10)
            or text_problem("unit", self.unit, 1, 256)
            or pairs_problem("attributes", self.attributes, 0, 64, _attribute_problem)
            or texts_problem("experiments", self.experiments, 0, 256, _experiments_item_problem)
            or text_problem("reply_to", self.reply_to, 0, 249, _REPLY_TO)
        )

    def avro(self) -> dict[str, Any]:
        return {
            "request_id": self.request_id,
            "ts": self.ts,
            "unit": self.unit,
            "attributes": [
                {"name": name, "value": value} for name, value in self.attributes.items()
            ],
            "experiments": list(self.experiments),
            "reply_to": self.reply_to,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment(Event):
    """The answer to an assignment request for one experiment."""

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID_UNKNOWN
    TYPE: ClassVar[str] = "assignment"
    TOPIC: ClassVar[str] = "assignments.v1"
    KEY: ClassVar[str] = "unit"
    SCHEMA: ClassVar[str] = event_schemas.ASSIGNMENT
    request_id: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=256,
            pattern=LINE,
            description="The request that this answers.",
            examples=["req-51d0"],
        ),
    ]
    unit: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=256,
            pattern=LINE,
            description="The unit that was assigned, as a pseudonym.",
            examples=["mfrggzdfmztwq2lk"],
        ),
    ]
    experiment: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=128,
            pattern="^[A-Za-z0-9_][A-Za-z0-9_.:-]*$",
            description="Key of the experiment.",
            examples=["npc_tone"],
        ),
    ]
    version: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=1_000_000,
            description=(
                "Version of the definition that decided; the first is 1, and 0 says that "
                "there is none."
            ),
            examples=[3],
        ),
    ]
    variation: Annotated[
        str,
        Field(
            strict=True,
            max_length=128,
            pattern=LINE,
            description=(
                "Key of the variation that the unit got; empty where no experiment has this key."
            ),
            examples=["warm"],
        ),
    ]
    params: Annotated[
        str,
        Field(
            strict=True,
            min_length=2,
            max_length=200_000,
            pattern=LINES,
            description=(
                "The parameters of the variation after guardrails, as the text of a JSON object."
            ),
            examples=['{"tone":"warm"}'],
        ),
    ]
    exposure_id: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=256,
            pattern=LINE,
            description="The same for the same experiment, version and unit.",
            examples=["3f9c2a1b7d6e4f50"],
        ),
    ]
    rationale: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=1_024,
            pattern=LINE,
            description="Why this variation: the rule that decided.",
            examples=["bucket 4711 of 10000"],
        ),
    ]

    def problem(self, now_ms: int) -> str | None:
        return (
            text_problem("request_id", self.request_id, 1, 256)
            or text_problem("unit", self.unit, 1, 256)
            or text_problem("experiment", self.experiment, 1, 128, _EXPERIMENT)
            or integer_problem("version", self.version, 0, 1_000_000)
            or text_problem("variation", self.variation, 0, 128)
            or lines_problem("params", self.params, 2, 200_000)
            or text_problem("exposure_id", self.exposure_id, 1, 256)
            or text_problem("rationale", self.rationale, 1, 1_024)
        )

    def avro(self) -> dict[str, Any]:
        return {
            "request_id": self.request_id,
            "unit": self.unit,
            "experiment": self.experiment,
            "version": self.version,
            "variation": self.variation,
            "params": self.params,
            "exposure_id": self.exposure_id,
            "rationale": self.rationale,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentRecord(Event):
    """One version of a definition: of an experiment, or of what experiments rest on.

    The topic is the only truth: the record with version = current + 1 that comes first in
    the log wins.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID_UNKNOWN
    TYPE: ClassVar[str] = "experiment"
    TOPIC: ClassVar[str] = "experiments.v1"
    KEY: ClassVar[str] = "key"
    SCHEMA: ClassVar[str] = event_schemas.EXPERIMENT
    key: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=128,
            pattern="^[A-Za-z0-9_][A-Za-z0-9_.:-]*$",
            description=(
                "Key of the experiment, or kind:key for everything else that is defined; "
                "the key of the record, too."
            ),
            examples=["npc_tone"],
        ),
    ]
    version: Annotated[
        int,
        Field(
            strict=True,
            ge=1,
            le=1_000_000,
            description="Counts the changes of this definition, from 1 without gaps.",
            examples=[3],
        ),
    ]
    status: Annotated[
        Literal["draft", "scheduled", "running", "stopped", "archived", "deleted"],
        Field(
            description=(
                "Where it stands. A deleted one keeps its record, never a tombstone, so "
                "that its versions and exposure ids are not given out again."
            ),
            examples=["running"],
        ),
    ]
    definition: Annotated[
        str,
        Field(
            strict=True,
            min_length=2,
            max_length=200_000,
            pattern=LINES,
            description="The whole definition as the text of a JSON object.",
            examples=['{"key":"npc_tone"}'],
        ),
    ]
    changed_by: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=256,
            pattern=LINE,
            description="Who made the change: the name of a key or a person's account.",
            examples=["experimenter"],
        ),
    ]
    changed_at: Annotated[
        Moment,
        Field(
            description=(
                "When the change was made, UTC; the present when absent. Unit: ms since "
                "1970-01-01T00:00:00Z."
            ),
            examples=[1_767_225_600_000],
        ),
    ] = field(default_factory=now_ms)
    comment: Annotated[
        str,
        Field(
            strict=True,
            max_length=2_000,
            pattern=LINES,
            description="Why, in the words of who changed it; may be empty.",
            examples=["second ramp-up step"],
        ),
    ] = ""
    confirms: (
        Annotated[
            int,
            Field(
                strict=True,
                ge=0,
                le=9_007_199_254_740_991,
                description=(
                    "Offset of the winner of this version, where this is a copy of it: "
                    "written behind a record that lost, so that compaction keeps a winner. "
                    "Null in every change."
                ),
                examples=[41],
            ),
        ]
        | None
    ) = None

    def problem(self, now_ms: int) -> str | None:
        return (
            text_problem("key", self.key, 1, 128, _EXPERIMENT)
            or integer_problem("version", self.version, 1, 1_000_000)
            or choice_problem(
                "status",
                self.status,
                ("draft", "scheduled", "running", "stopped", "archived", "deleted"),
            )
            or lines_problem("definition", self.definition, 2, 200_000)
            or text_problem("changed_by", self.changed_by, 1, 256)
            or time_problem("changed_at", self.changed_at, now_ms, 400, 10)
            or lines_problem("comment", self.comment, 0, 2_000)
            or (
                None
                if self.confirms is None
                else integer_problem("confirms", self.confirms, 0, 9_007_199_254_740_991)
            )
        )

    def avro(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "version": self.version,
            "status": self.status,
            "definition": self.definition,
            "changed_by": self.changed_by,
            "changed_at": self.changed_at,
            "comment": self.comment,
            "confirms": self.confirms,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry(Event):
    """Who did what to what, with the state before and after.

    Kept for good.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _FORBID_UNKNOWN
    TYPE: ClassVar[str] = "audit"
    TOPIC: ClassVar[str] = "audit.v1"
    KEY: ClassVar[str] = "actor"
    SCHEMA: ClassVar[str] = event_schemas.AUDIT
    event_id: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=256,
            pattern=LINE,
            description=(
                "Identifies this event for good; a random one when absent. An event sent "
                "twice carries the same."
            ),
            examples=["6f1c0f5e8f6b4f0f9a4f3c1d2b7e9a10"],
        ),
    ] = field(default_factory=new_id)
    ts: Annotated[
        Moment,
        Field(
            description=(
                "When it happened: event time, UTC; the present when absent. Unit: ms "
                "since 1970-01-01T00:00:00Z."
            ),
            examples=[1_767_225_600_000],
        ),
    ] = field(default_factory=now_ms)
    actor: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=256,
            pattern=LINE,
            description="Who did it: the name of a key or a person's account.",
            examples=["experimenter"],
        ),
    ]
    action: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=128,
            pattern="^[A-Za-z0-9_][A-Za-z0-9_.:-]*$",
            description="What was done, as <thing>.<verb>.",
            examples=["experiment.start"],
        ),
    ]
    target: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=256,
            pattern=LINE,
            description="What it was done to.",
            examples=["npc_tone"],
        ),
    ]
    before: (
        Annotated[
            str,
            Field(
                strict=True,
                max_length=400_000,
                pattern=LINES,
                description="The state before as JSON text; null where there was none.",
            ),
        ]
        | None
    ) = None
    after: (
        Annotated[
            str,
            Field(
                strict=True,
                max_length=400_000,
                pattern=LINES,
                description="The state after as JSON text; null where there is none.",
            ),
        ]
        | None
    ) = None
    request_id: Annotated[
        str,
        Field(
            strict=True,
            max_length=256,
            pattern=LINE,
            description="The HTTP request that did it; empty when it was done otherwise.",
            examples=["01JF2Q"],
        ),
    ] = ""
    comment: Annotated[
        str,
        Field(
            strict=True,
            max_length=2_000,
            pattern=LINES,
            description="Why, in the words of who did it; may be empty.",
        ),
    ] = ""
    chain: Annotated[
        str,
        Field(
            strict=True,
            max_length=64,
            pattern=LINE,
            description=(
                "The chain that the entry is a link of: one for each life of a process "
                "that writes entries."
            ),
            examples=["3d4be2c1a5f7409e"],
        ),
    ] = ""
    sequence: Annotated[
        int,
        Field(
            strict=True,
            ge=0,
            le=9_007_199_254_740_991,
            description="The entry's place in its chain, from 1 on without a gap; a count.",
            examples=[1],
        ),
    ]
    previous_hash: Annotated[
        str,
        Field(
            strict=True,
            max_length=64,
            pattern=LINE,
            description="The hash of the entry before it in its chain; empty in the first.",
        ),
    ] = ""
    hash: Annotated[
        str,
        Field(
            strict=True,
            max_length=64,
            pattern=LINE,
            description=(
                "SHA-256, in hexadecimal, of all other fields that are not empty, as "
                "canonical JSON."
            ),
        ),
    ] = ""

    def problem(self, now_ms: int) -> str | None:
        return (
            text_problem("event_id", self.event_id, 1, 256)
            or time_problem("ts", self.ts, now_ms, 400, 10)
            or text_problem("actor", self.actor, 1, 256)
            or text_problem("action", self.action, 1, 128, _EXPERIMENT)
            or text_problem("target", self.target, 1, 256)
            or (None if self.before is None else lines_problem("before", self.before, 0, 400_000))
            or (None if self.after is None else lines_problem("after", self.after, 0, 400_000))
            or text_problem("request_id", self.request_id, 0, 256)
            or lines_problem("comment", self.comment, 0, 2_000)
            or text_problem("chain", self.chain, 0, 64)
            or integer_problem("sequence", self.sequence, 0, 9_007_199_254_740_991)
            or text_problem("previous_hash", self.previous_hash, 0, 64)
            or text_problem("hash", self.hash, 0, 64)
        )

    def avro(self) -> dict[str, Any]:
        return {
            "event_id": self.event_id,
            "ts": self.ts,
            "actor": self.actor,
            "action": self.action,
            "target": self.target,
            "before": self.before,
            "after": self.after,
            "request_id": self.request_id,
            "comment": self.comment,
            "chain": self.chain,
            "sequence": self.sequence,
            "previous_hash": self.previous_hash,
            "hash": self.hash,
        }


RECORD_TYPES: tuple[type[Event], ...] = (
    Exposure,
    TurnMetric,
    Invite,
    Outcome,
    AssignmentRequest,
    Assignment,
    ExperimentRecord,
    AuditEntry,
)
"""Everything that is written to a topic."""
EVENT_TYPES: dict[str, type[Event]] = {
    Exposure.TYPE: Exposure,
    TurnMetric.TYPE: TurnMetric,
    Invite.TYPE: Invite,
    Outcome.TYPE: Outcome,
}
"""What services emit, by the name it has in `POST /v1/events`."""
