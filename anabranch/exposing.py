"""The exposure that an assignment leaves behind: what reports count."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeGuard

from anabranch.assignment import Assignment
from anabranch.events import Exposure
from anabranch.fields import now_ms, text_problem
from anabranch.pseudonyms import personal_identifier

_LOCALE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")
_LONGEST_LOCALE = 35
_LONGEST_TEXT = 1_024
_LONGEST_INTEGER_BITS = 64


def exposure_of(
    assignment: Assignment,
    attributes: Mapping[str, Any],
    dimensions: Iterable[str],
    source: str,
    ts_ms: int | None = None,
) -> Exposure:
    """Of a unit that is in the experiment. Of its attributes only the locale and the experiment's
    dimensions are kept: nobody's other data goes into an event."""
    locale = attributes.get("locale")
    kept = {}
    for name in dimensions:
        if (text := _text(attributes.get(name))) is not None:
            kept[name] = text
    return Exposure(
        ts=now_ms() if ts_ms is None else ts_ms,
        exposure_id=assignment.exposure_id,
        experiment=assignment.experiment,
        version=assignment.version,
        variation=assignment.variation,
        unit=assignment.unit,
        locale=locale if _is_locale(locale) else "",
        attributes=kept,
        source=source,
    )


def _is_locale(given: object) -> TypeGuard[str]:
    if not isinstance(given, str) or len(given) > _LONGEST_LOCALE:
        return False
    return _LOCALE.fullmatch(given) is not None


def _text(value: Any) -> str | None:
    """As `attributes` of an exposure are written; None for what does not fit there."""
    if isinstance(value, str):
        text = value
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, int) and value.bit_length() <= _LONGEST_INTEGER_BITS:
        text = str(int(value))
    elif isinstance(value, float):
        text = json.dumps(float(value))
    else:
        return None
    if text_problem("value", text, 0, _LONGEST_TEXT) or personal_identifier(text):
        return None  # it would make the event invalid, or tell who somebody is
    return text
