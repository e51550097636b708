"""The body of `POST /v1/assign`, as the OpenAPI document shows it."""

from __future__ import annotations

from typing import Any

from service.assignment_requests import DEADLINE_MS, MOST_EXPERIMENTS

_KEY = {"type": "string", "minLength": 1, "maxLength": 128}

ASSIGN_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["unit"],
                "additionalProperties": False,
                "properties": {
                    "unit": {
                        "description": "Who is assigned, as a pseudonym; or one for each kind of "
                        "unit, where experiments differ in what they assign.",
                        "anyOf": [
                            {"type": "string", "minLength": 1, "maxLength": 256},
                            {
                                "type": "object",
                                "minProperties": 1,
                                "maxProperties": 20,
                                "additionalProperties": {"type": "string", "minLength": 1},
                            },
                        ],
                    },
                    "experiment": _KEY | {"description": "The one to decide."},
                    "experiments": {
                        "type": ["array", "null"],
                        "maxItems": MOST_EXPERIMENTS,
                        "items": _KEY,
                        "description": "Those to decide; all that run when neither is there.",
                    },
                    "attributes": {
                        "type": "object",
                        "description": "What is known of the unit, for targeting: any JSON.",
                    },
                    "log": {
                        "type": "boolean",
                        "default": True,
                        "description": "Whether the exposure is logged.",
                    },
                    "explain": {
                        "type": "boolean",
                        "default": False,
                        "description": "Answer with each question that was asked, and its answer.",
                    },
                    "away": {
                        "type": "array",
                        "items": _KEY,
                        "maxItems": 100,
                        "description": "Sources that are away now; parameter sets that need them "
                        "give way to their fallbacks.",
                    },
                    "deadline_ms": {
                        "type": "integer",
                        "minimum": 1,
                        "maximum": 60_000,
                        "default": DEADLINE_MS,
                        "description": "After that the default variation is the answer.",
                    },
                },
                "examples": [
                    {"unit": "u1", "experiment": "npc_tone", "attributes": {"locale": "en"}}
                ],
            }
        }
    },
}
