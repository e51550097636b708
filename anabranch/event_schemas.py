"""The Avro schema of every event, as its producers register it.

Written by `make schemas` from `schemas/*.avsc`; change those.
"""

# ruff: noqa: E501

EXPOSURE = r"""{
  "type": "record",
  "name": "Exposure",
  "namespace": "anabranch",
  "doc": "A unit met a variation of an experiment. Logged when the variation takes effect; the same exposure logged again carries the same exposure_id.",
  "fields": [
    {
      "name": "event_id",
      "type": "string",
      "doc": "Identifies this event for good; a random one when absent. An event sent twice carries the same.",
      "minLength": 1,
      "maxLength": 256,
      "generated": "id",
      "example": "6f1c0f5e8f6b4f0f9a4f3c1d2b7e9a10"
    },
    {
      "name": "ts",
      "type": {"type": "long", "logicalType": "timestamp-millis"},
      "doc": "When it happened: event time, UTC; the present when absent.",
      "unit": "ms since 1970-01-01T00:00:00Z",
      "maximumAgeDays": 400,
      "maximumAheadMinutes": 10,
      "generated": "now",
      "example": 1767225600000
    },
    {
      "name": "exposure_id",
      "type": "string",
      "doc": "The same for the same experiment, version and unit, so that a repeated exposure is recognised.",
      "minLength": 1,
      "maxLength": 256,
      "example": "3f9c2a1b7d6e4f50"
    },
    {
      "name": "experiment",
      "type": "string",
      "doc": "Key of the experiment.",
      "minLength": 1,
      "maxLength": 128,
      "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.:-]*$",
      "example": "npc_tone"
    },
    {
      "name": "version",
      "type": "int",
      "doc": "Version of the definition that decided; the first is 1.",
      "minimum": 1,
      "maximum": 1000000,
      "example": 3
    },
    {
      "name": "variation",
      "type": "string",
      "doc": "Key of the variation that the unit got.",
      "minLength": 1,
      "maxLength": 128,
      "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.:-]*$",
      "example": "warm"
    },
    {
      "name": "unit",
      "type": "string",
      "doc": "What is randomised: a session, a player or another id, as a pseudonym; never a personal identifier.",
      "minLength": 1,
      "maxLength": 256,
      "example": "mfrggzdfmztwq2lk"
    },
    {
      "name": "locale",
      "type": "string",
      "doc": "Language of the unit as a BCP 47 tag; empty when unknown.",
      "maxLength": 35,
      "pattern": "^([A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*)?$",
      "optional": true,
      "example": "pt-BR"
    },
    {
      "name": "attributes",
      "type": {
        "type": "array",
        "items": {
          "type": "record",
          "name": "Attribute",
          "doc": "One attribute of a unit.",
          "fields": [
            {
              "name": "name",
              "type": "string",
              "doc": "Name of the attribute.",
              "minLength": 1,
              "maxLength": 128
            },
            {
              "name": "value",
              "type": "string",
              "doc": "Its value as text; a number or a truth value as its JSON text.",
              "maxLength": 1024
            }
          ]
        }
      },
      "doc": "What was known of the unit when the variation was chosen.",
      "pairs": true,
      "maxItems": 64,
      "example": {"locale": "en", "level": "12"},
      "optional": true
    },
    {
      "name": "source",
      "type": "string",
      "doc": "What logged it: a service or an SDK, with its version; empty when unknown.",
      "maxLength": 128,
      "optional": true,
      "example": "dialogue-service/2.4"
    }
  ]
}"""

TURN_METRIC = r"""{
  "type": "record",
  "name": "TurnMetric",
  "namespace": "anabranch",
  "doc": "One turn of a session: what it cost and what it did.",
  "fields": [
    {
      "name": "event_id",
      "type": "string",
      "doc": "Identifies this event for good; a random one when absent. An event sent twice carries the same.",
      "minLength": 1,
      "maxLength": 256,
      "generated": "id",
      "example": "6f1c0f5e8f6b4f0f9a4f3c1d2b7e9a10"
    },
    {
      "name": "ts",
      "type": {"type": "long", "logicalType": "timestamp-millis"},
      "doc": "When it happened: event time, UTC; the present when absent.",
      "unit": "ms since 1970-01-01T00:00:00Z",
      "maximumAgeDays": 400,
      "maximumAheadMinutes": 10,
      "generated": "now",
      "example": 1767225600000
    },
    {
      "name": "session",
      "type": "string",
      "doc": "The session that the turn belongs to, as a pseudonym.",
      "minLength": 1,
      "maxLength": 256,
      "example": "s-7f3a"
    },
    {
      "name": "player",
      "type": "string",
      "doc": "The player whose turn it was, as a pseudonym.",
      "minLength": 1,
      "maxLength": 256,
      "example": "mfrggzdfmztwq2lk"
    },
    {
      "name": "locale",
      "type": "string",
      "doc": "Language of the session as a BCP 47 tag; empty when unknown.",
      "maxLength": 35,
      "pattern": "^([A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*)?$",
      "optional": true,
      "example": "pt-BR"
    },
    {
      "name": "exposures",
      "type": {
        "type": "array",
        "items": {
          "type": "record",
          "name": "ExposureRef",
          "doc": "Which variation of which experiment a unit was in.",
          "fields": [
            {
              "name": "experiment",
              "type": "string",
              "doc": "Key of the experiment.",
              "minLength": 1,
              "maxLength": 128,
              "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.:-]*$",
              "example": "npc_tone"
            },
            {
              "name": "version",
              "type": "int",
              "doc": "Version of the definition that decided; the first is 1.",
              "minimum": 1,
              "maximum": 1000000,
              "example": 3
            },
            {
              "name": "variation",
              "type": "string",
              "doc": "Key of the variation that the unit got.",
              "minLength": 1,
              "maxLength": 128,
              "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.:-]*$",
              "example": "warm"
            },
            {
              "name": "unit",
              "type": "string",
              "doc": "What is randomised: a session, a player or another id, as a pseudonym; never a personal identifier.",
              "minLength": 1,
              "maxLength": 256,
              "example": "mfrggzdfmztwq2lk"
            }
          ]
        }
      },
      "doc": "The experiments that shaped this turn. It counts once for each of them; none: it counts for no experiment.",
      "maxItems": 64,
      "optional": true
    },
    {
      "name": "turn_ms",
      "type": "int",
      "doc": "Wall time of the whole turn, from the player's input to the last output.",
      "minimum": 0,
      "maximum": 86400000,
      "unit": "ms",
      "example": 812
    },
    {
      "name": "model_ms",
      "type": "int",
      "doc": "Time spent waiting for models in this turn, summed over calls; parallel calls may exceed turn_ms.",
      "minimum": 0,
      "maximum": 86400000,
      "unit": "ms",
      "example": 640
    },
    {
      "name": "bundle_tokens",
      "type": "int",
      "doc": "Size of the context bundle given to the model.",
      "minimum": 0,
      "maximum": 100000000,
      "unit": "tokens",
      "example": 2150
    },
    {
      "name": "output_tokens",
      "type": "int",
      "doc": "Tokens that models wrote in this turn.",
      "minimum": 0,
      "maximum": 100000000,
      "unit": "tokens",
      "example": 187
    },
    {
      "name": "retries",
      "type": "int",
      "doc": "Model calls repeated after a failure.",
      "minimum": 0,
      "maximum": 10000,
      "unit": "count",
      "example": 0
    },
    {
      "name": "fallbacks",
      "type": "int",
      "doc": "Times that a cheaper or canned answer stood in for the model's.",
      "minimum": 0,
      "maximum": 10000,
      "unit": "count",
      "example": 0
    },
    {
      "name": "tool_calls",
      "type": "int",
      "doc": "Tools called by models.",
      "minimum": 0,
      "maximum": 100000,
      "unit": "count",
      "example": 2
    },
    {
      "name": "acts",
      "type": "int",
      "doc": "Acts performed by characters.",
      "minimum": 0,
      "maximum": 100000,
      "unit": "count",
      "example": 1
    },
    {
      "name": "choices",
      "type": "int",
      "doc": "Choices offered to the player.",
      "minimum": 0,
      "maximum": 100000,
      "unit": "count",
      "example": 3
    },
    {
      "name": "time_ticks",
      "type": "int",
      "doc": "How far the story's own clock went on.",
      "minimum": 0,
      "maximum": 1000000000,
      "unit": "ticks",
      "example": 1
    }
  ]
}"""

INVITE = r"""{
  "type": "record",
  "name": "Invite",
  "namespace": "anabranch",
  "doc": "A step of an invitation: it was sent, somebody joined by it, or the one who joined reached the first moment of value.",
  "fields": [
    {
      "name": "event_id",
      "type": "string",
      "doc": "Identifies this event for good; a random one when absent. An event sent twice carries the same.",
      "minLength": 1,
      "maxLength": 256,
      "generated": "id",
      "example": "6f1c0f5e8f6b4f0f9a4f3c1d2b7e9a10"
    },
    {
      "name": "ts",
      "type": {"type": "long", "logicalType": "timestamp-millis"},
      "doc": "When it happened: event time, UTC; the present when absent.",
      "unit": "ms since 1970-01-01T00:00:00Z",
      "maximumAgeDays": 400,
      "maximumAheadMinutes": 10,
      "generated": "now",
      "example": 1767225600000
    },
    {
      "name": "kind",
      "type": "string",
      "doc": "The step: sent, joined, or fvm (the first valuable moment of the invitee). A later version may add steps; readers keep those they do not know.",
      "enum": ["sent", "joined", "fvm"],
      "example": "joined"
    },
    {
      "name": "invite_id",
      "type": "string",
      "doc": "Identifies the invitation; the same in each of its steps.",
      "minLength": 1,
      "maxLength": 256,
      "example": "inv-19c2"
    },
    {
      "name": "loop",
      "type": "string",
      "doc": "Name of the growth loop that it belongs to.",
      "minLength": 1,
      "maxLength": 128,
      "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.:-]*$",
      "example": "share_story"
    },
    {
      "name": "inviter",
      "type": "string",
      "doc": "Who invited, as a pseudonym.",
      "minLength": 1,
      "maxLength": 256,
      "example": "mfrggzdfmztwq2lk"
    },
    {
      "name": "invitee",
      "type": ["null", "string"],
      "default": null,
      "doc": "Who was invited, as a pseudonym; null until they joined.",
      "minLength": 1,
      "maxLength": 256,
      "example": "nbswy3dpo5xxe3de",
      "optional": true
    },
    {
      "name": "smart_link_code",
      "type": "string",
      "doc": "Code of the link that carried it; empty when there was none.",
      "maxLength": 256,
      "optional": true,
      "example": "k7Qp2"
    },
    {
      "name": "locale",
      "type": "string",
      "doc": "Language of the inviter as a BCP 47 tag; empty when unknown.",
      "maxLength": 35,
      "pattern": "^([A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*)?$",
      "optional": true,
      "example": "pt-BR"
    },
    {
      "name": "exposures",
      "type": {
        "type": "array",
        "items": {
          "type": "record",
          "name": "ExposureRef",
          "doc": "Which variation of which experiment a unit was in.",
          "fields": [
            {
              "name": "experiment",
              "type": "string",
              "doc": "Key of the experiment.",
              "minLength": 1,
              "maxLength": 128,
              "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.:-]*$",
              "example": "npc_tone"
            },
            {
              "name": "version",
              "type": "int",
              "doc": "Version of the definition that decided; the first is 1.",
              "minimum": 1,
              "maximum": 1000000,
              "example": 3
            },
            {
              "name": "variation",
              "type": "string",
              "doc": "Key of the variation that the unit got.",
              "minLength": 1,
              "maxLength": 128,
              "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.:-]*$",
              "example": "warm"
            },
            {
              "name": "unit",
              "type": "string",
              "doc": "What is randomised: a session, a player or another id, as a pseudonym; never a personal identifier.",
              "minLength": 1,
              "maxLength": 256,
              "example": "mfrggzdfmztwq2lk"
            }
          ]
        }
      },
      "doc": "The experiments that the inviter was in.",
      "maxItems": 64,
      "optional": true
    }
  ]
}"""

OUTCOME = r"""{
  "type": "record",
  "name": "Outcome",
  "namespace": "anabranch",
  "doc": "Something that a service measured of a unit: a conversion, a cost, a completeness, a confidence, an edit, anything.",
  "fields": [
    {
      "name": "event_id",
      "type": "string",
      "doc": "Identifies this event for good; a random one when absent. An event sent twice carries the same.",
      "minLength": 1,
      "maxLength": 256,
      "generated": "id",
      "example": "6f1c0f5e8f6b4f0f9a4f3c1d2b7e9a10"
    },
    {
      "name": "ts",
      "type": {"type": "long", "logicalType": "timestamp-millis"},
      "doc": "When it happened: event time, UTC; the present when absent.",
      "unit": "ms since 1970-01-01T00:00:00Z",
      "maximumAgeDays": 400,
      "maximumAheadMinutes": 10,
      "generated": "now",
      "example": 1767225600000
    },
    {
      "name": "unit",
      "type": "string",
      "doc": "Whom the values belong to: the unit of an exposure, as a pseudonym.",
      "minLength": 1,
      "maxLength": 256,
      "example": "mfrggzdfmztwq2lk"
    },
    {
      "name": "values",
      "type": {
        "type": "array",
        "items": {
          "type": "record",
          "name": "Measurement",
          "doc": "One measured value.",
          "fields": [
            {
              "name": "name",
              "type": "string",
              "doc": "Name of the metric.",
              "minLength": 1,
              "maxLength": 128,
              "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.:-]*$"
            },
            {
              "name": "value",
              "type": "double",
              "doc": "The value, in the metric's own unit. Finite; bounded so that sums of squares stay exact enough.",
              "minimum": -1000000000000000.0,
              "maximum": 1000000000000000.0
            }
          ]
        }
      },
      "doc": "What was measured, by name; 1 for a conversion. At least one.",
      "pairs": true,
      "maxItems": 64,
      "minItems": 1,
      "example": {"purchase": 1, "revenue_eur": 4.99}
    },
    {
      "name": "dimensions",
      "type": {
        "type": "array",
        "items": {
          "type": "record",
          "name": "Dimension",
          "doc": "One dimension of an outcome.",
          "fields": [
            {
              "name": "name",
              "type": "string",
              "doc": "Name of the dimension.",
              "minLength": 1,
              "maxLength": 128,
              "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.:-]*$"
            },
            {"name": "value", "type": "string", "doc": "Its value.", "maxLength": 1024}
          ]
        }
      },
      "doc": "What the values can be told apart by.",
      "pairs": true,
      "maxItems": 64,
      "example": {"platform": "ios"},
      "optional": true
    }
  ]
}"""

ASSIGNMENT_REQUEST = r"""{
  "type": "record",
  "name": "AssignmentRequest",
  "namespace": "anabranch",
  "doc": "A unit asks for its variations over Kafka.",
  "fields": [
    {
      "name": "request_id",
      "type": "string",
      "doc": "Identifies the request; every answer carries it.",
      "minLength": 1,
      "maxLength": 256,
      "generated": "id",
      "example": "req-51d0"
    },
    {
      "name": "ts",
      "type": {"type": "long", "logicalType": "timestamp-millis"},
      "doc": "When it was asked: event time, UTC; the present when absent.",
      "unit": "ms since 1970-01-01T00:00:00Z",
      "maximumAgeDays": 400,
      "maximumAheadMinutes": 10,
      "generated": "now",
      "example": 1767225600000
    },
    {
      "name": "unit",
      "type": "string",
      "doc": "Who asks: the unit to assign, as a pseudonym.",
      "minLength": 1,
      "maxLength": 256,
      "example": "mfrggzdfmztwq2lk"
    },
    {
      "name": "attributes",
      "type": {
        "type": "array",
        "items": {
          "type": "record",
          "name": "Attribute",
          "doc": "One attribute of a unit.",
          "fields": [
            {
              "name": "name",
              "type": "string",
              "doc": "Name of the attribute.",
              "minLength": 1,
              "maxLength": 128
            },
            {
              "name": "value",
              "type": "string",
              "doc": "Its value as text; a number or a truth value as its JSON text.",
              "maxLength": 1024
            }
          ]
        }
      },
      "doc": "What is known of the unit, for targeting.",
      "pairs": true,
      "maxItems": 64,
      "example": {"locale": "en", "level": "12"},
      "optional": true
    },
    {
      "name": "experiments",
      "type": {
        "type": "array",
        "items": {
          "type": "string",
          "minLength": 1,
          "maxLength": 128,
          "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.:-]*$"
        }
      },
      "doc": "Keys of the experiments to decide; empty for all that run.",
      "maxItems": 256,
      "optional": true,
      "example": ["npc_tone"]
    },
    {
      "name": "reply_to",
      "type": "string",
      "doc": "Topic for the answers; empty for assignments.v1.",
      "maxLength": 249,
      "pattern": "^[A-Za-z0-9._-]*$",
      "optional": true
    }
  ]
}"""

ASSIGNMENT = r"""{
  "type": "record",
  "name": "Assignment",
  "namespace": "anabranch",
  "doc": "The answer to an assignment request for one experiment.",
  "fields": [
    {
      "name": "request_id",
      "type": "string",
      "doc": "The request that this answers.",
      "minLength": 1,
      "maxLength": 256,
      "example": "req-51d0"
    },
    {
      "name": "unit",
      "type": "string",
      "doc": "The unit that was assigned, as a pseudonym.",
      "minLength": 1,
      "maxLength": 256,
      "example": "mfrggzdfmztwq2lk"
    },
    {
      "name": "experiment",
      "type": "string",
      "doc": "Key of the experiment.",
      "minLength": 1,
      "maxLength": 128,
      "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.:-]*$",
      "example": "npc_tone"
    },
    {
      "name": "version",
      "type": "int",
      "doc": "Version of the definition that decided; the first is 1, and 0 says that there is none.",
      "minimum": 0,
      "maximum": 1000000,
      "example": 3
    },
    {
      "name": "variation",
      "type": "string",
      "doc": "Key of the variation that the unit got; empty where no experiment has this key.",
      "maxLength": 128,
      "example": "warm"
    },
    {
      "name": "params",
      "type": "string",
      "doc": "The parameters of the variation after guardrails, as the text of a JSON object.",
      "minLength": 2,
      "maxLength": 200000,
      "multiline": true,
      "example": "{\"tone\":\"warm\"}"
    },
    {
      "name": "exposure_id",
      "type": "string",
      "doc": "The same for the same experiment, version and unit.",
      "minLength": 1,
      "maxLength": 256,
      "example": "3f9c2a1b7d6e4f50"
    },
    {
      "name": "rationale",
      "type": "string",
      "doc": "Why this variation: the rule that decided.",
      "minLength": 1,
      "maxLength": 1024,
      "example": "bucket 4711 of 10000"
    }
  ]
}"""

EXPERIMENT = r"""{
  "type": "record",
  "name": "ExperimentRecord",
  "namespace": "anabranch",
  "doc": "One version of a definition: of an experiment, or of what experiments rest on. The topic is the only truth: the record with version = current + 1 that comes first in the log wins.",
  "fields": [
    {
      "name": "key",
      "type": "string",
      "doc": "Key of the experiment, or kind:key for everything else that is defined; the key of the record, too.",
      "minLength": 1,
      "maxLength": 128,
      "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.:-]*$",
      "example": "npc_tone"
    },
    {
      "name": "version",
      "type": "int",
      "doc": "Counts the changes of this definition, from 1 without gaps.",
      "minimum": 1,
      "maximum": 1000000,
      "example": 3
    },
    {
      "name": "status",
      "type": "string",
      "doc": "Where it stands. A deleted one keeps its record, never a tombstone, so that its versions and exposure ids are not given out again.",
      "enum": ["draft", "scheduled", "running", "stopped", "archived", "deleted"],
      "example": "running"
    },
    {
      "name": "definition",
      "type": "string",
      "doc": "The whole definition as the text of a JSON object.",
      "minLength": 2,
      "maxLength": 200000,
      "multiline": true,
      "example": "{\"key\":\"npc_tone\"}"
    },
    {
      "name": "changed_by",
      "type": "string",
      "doc": "Who made the change: the name of a key or a person's account.",
      "minLength": 1,
      "maxLength": 256,
      "example": "experimenter"
    },
    {
      "name": "changed_at",
      "type": {"type": "long", "logicalType": "timestamp-millis"},
      "doc": "When the change was made, UTC; the present when absent.",
      "unit": "ms since 1970-01-01T00:00:00Z",
      "maximumAgeDays": 400,
      "maximumAheadMinutes": 10,
      "generated": "now",
      "example": 1767225600000
    },
    {
      "name": "comment",
      "type": "string",
      "doc": "Why, in the words of who changed it; may be empty.",
      "maxLength": 2000,
      "multiline": true,
      "optional": true,
      "example": "second ramp-up step"
    },
    {
      "name": "confirms",
      "type": ["null", "long"],
      "default": null,
      "doc": "Offset of the winner of this version, where this is a copy of it: written behind a record that lost, so that compaction keeps a winner. Null in every change.",
      "minimum": 0,
      "maximum": 9007199254740991,
      "optional": true,
      "example": 41
    }
  ]
}"""

AUDIT = r"""{
  "type": "record",
  "name": "AuditEntry",
  "namespace": "anabranch",
  "doc": "Who did what to what, with the state before and after. Kept for good.",
  "fields": [
    {
      "name": "event_id",
      "type": "string",
      "doc": "Identifies this event for good; a random one when absent. An event sent twice carries the same.",
      "minLength": 1,
      "maxLength": 256,
      "generated": "id",
      "example": "6f1c0f5e8f6b4f0f9a4f3c1d2b7e9a10"
    },
    {
      "name": "ts",
      "type": {"type": "long", "logicalType": "timestamp-millis"},
      "doc": "When it happened: event time, UTC; the present when absent.",
      "unit": "ms since 1970-01-01T00:00:00Z",
      "maximumAgeDays": 400,
      "maximumAheadMinutes": 10,
      "generated": "now",
      "example": 1767225600000
    },
    {
      "name": "actor",
      "type": "string",
      "doc": "Who did it: the name of a key or a person's account.",
      "minLength": 1,
      "maxLength": 256,
      "example": "experimenter"
    },
    {
      "name": "action",
      "type": "string",
      "doc": "What was done, as <thing>.<verb>.",
      "minLength": 1,
      "maxLength": 128,
      "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.:-]*$",
      "example": "experiment.start"
    },
    {
      "name": "target",
      "type": "string",
      "doc": "What it was done to.",
      "minLength": 1,
      "maxLength": 256,
      "example": "npc_tone"
    },
    {
      "name": "before",
      "type": ["null", "string"],
      "default": null,
      "doc": "The state before as JSON text; null where there was none.",
      "maxLength": 400000,
      "multiline": true,
      "optional": true
    },
    {
      "name": "after",
      "type": ["null", "string"],
      "default": null,
      "doc": "The state after as JSON text; null where there is none.",
      "maxLength": 400000,
      "multiline": true,
      "optional": true
    },
    {
      "name": "request_id",
      "type": "string",
      "doc": "The HTTP request that did it; empty when it was done otherwise.",
      "maxLength": 256,
      "optional": true,
      "example": "01JF2Q"
    },
    {
      "name": "comment",
      "type": "string",
      "doc": "Why, in the words of who did it; may be empty.",
      "maxLength": 2000,
      "multiline": true,
      "optional": true
    },
    {
      "name": "chain",
      "type": "string",
      "default": "",
      "doc": "The chain that the entry is a link of: one for each life of a process that writes entries.",
      "maxLength": 64,
      "optional": true,
      "example": "3d4be2c1a5f7409e"
    },
    {
      "name": "sequence",
      "type": "long",
      "default": 0,
      "doc": "The entry's place in its chain, from 1 on without a gap; a count.",
      "minimum": 0,
      "maximum": 9007199254740991,
      "example": 1
    },
    {
      "name": "previous_hash",
      "type": "string",
      "default": "",
      "doc": "The hash of the entry before it in its chain; empty in the first.",
      "maxLength": 64,
      "optional": true
    },
    {
      "name": "hash",
      "type": "string",
      "default": "",
      "doc": "SHA-256, in hexadecimal, of all other fields that are not empty, as canonical JSON.",
      "maxLength": 64,
      "optional": true
    }
  ]
}"""
