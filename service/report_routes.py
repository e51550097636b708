"""`GET /v1/experiments/{key}/report` and `GET /v1/reports/{id}`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from anabranch.definitions import Key
from analysis.corrections import Correction, Family
from analysis.report_document import Report
from analysis.unit_statistics import Multiple
from service.access import CHECKED_WITHIN, Access, Permission, needs
from service.answers import is_unchanged
from service.problems import problem_answers
from service.query_answers import QUERIED, From, Level, To, known_time
from service.report_formats import MEDIA_TYPES, Format, parts
from service.reports import ReportQuestion, Reports

MOST_METRICS = 100
_FRESH = "private, no-cache"
_FOR_GOOD = "private, max-age=31536000, immutable"

AsFormat = Annotated[
    Format,
    Query(
        alias="format",
        description="`csv`, `arrow` (a stream) and `parquet` have one row for each segment, metric "
        "and variation, with the numbers of the JSON.",
    ),
]
_FORMATS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            media_type.partition(";")[0]: {"schema": {"type": "string", "format": "binary"}}
            for form, media_type in MEDIA_TYPES.items()
            if form != "json"
        }
    },
    304: {"description": "The caller has this report already."},
}


def report_routes(access: Access, reports: Reports) -> APIRouter:
    router = access.router(tags=["reports"])

    @router.get(
        "/v1/experiments/{key}/report",
        response_model=Report,
        responses=_FORMATS | problem_answers(404, 409, *QUERIED),
    )
    @needs(Permission.VIEW)
    async def report(
        request: Request,
        key: str,
        from_: From = None,
        to: To = None,
        by: Annotated[
            Key | None,
            Query(description="Segments by `locale`, or by a dimension of the experiment."),
        ] = None,
        metric: Annotated[
            list[Key] | None,
            Query(
                max_length=MOST_METRICS,
                description="Only these; may be repeated, and need not be the experiment's own.",
            ),
        ] = None,
        multiple: Annotated[
            Multiple,
            Query(
                description="Units that saw several variations: left out (`exclude`), kept in the "
                "first one (`first`), or in each (`both`). They are counted in any case."
            ),
        ] = Multiple.EXCLUDE,
        family: Annotated[
            Family | None,
            Query(
                description="Which tests are corrected for each other; all metrics and variations, "
                "each segment by itself, when absent."
            ),
        ] = None,
        correction: Annotated[Correction, Query(description="How.")] = Correction.HOLM,
        level: Level = 0.95,
        form: AsFormat = "json",
    ) -> Response:
        """What the experiment did: a decision with its reasons, the health of the data, and each
        metric with effects, intervals and p-values. docs/statistics.md explains every number.

        `from` and `to` choose units by their first exposure; what these units did counts whenever
        they did it. Without them, the units are those that came under the weights of now
        (`period.versions`): under other weights they are not comparable, and a period that puts
        several weights together gets no decision.

        `metric`, `family`, `correction` and `level` choose what is shown. The decision and the
        health go by the metrics of the definition, at 95 % and by Holm, whatever is asked for.

        A report is made when new events have been applied, or the definition has changed, and else
        is the one before: `ETag` is its id, `If-None-Match` gets 304.
        `/v1/reports/{id}` gives the same bytes for 400 days.
        """
        asked = ReportQuestion(
            *(key, _time("from", from_), _time("to", to), by),
            metrics=None if metric is None else tuple(dict.fromkeys(metric)),
            multiple=multiple,
            family=family,
            correction=correction,
            level=level,
        )
        found = await reports.get(asked)
        return _answered(request, found.body, found.etag.strip('"'), form, key, _FRESH)

    @router.get(
        "/v1/reports/{id}",
        response_model=Report,
        responses=_FORMATS | problem_answers(404, *QUERIED),
    )
    @needs(Permission.VIEW, experiment=CHECKED_WITHIN)
    async def stored(
        request: Request,
        report_id: Annotated[str, Path(alias="id", max_length=64)],
        form: AsFormat = "json",
    ) -> Response:
        """A report that was given out before: the identical bytes. `origin` says what it was made
        from: offsets of Kafka, version of the definition, release of the service."""
        found = await reports.find(report_id)
        access.may(request, Permission.VIEW, found.experiment)
        return _answered(request, found.body, found.id, form, found.experiment, _FOR_GOOD)

    return router


def _time(name: str, at: datetime | None) -> datetime | None:
    return None if at is None else known_time(name, at)


def _answered(
    request: Request, body: bytes, report_id: str, form: Format, key: str, kept: str
) -> Response:
    etag = f'"{report_id}"' if form == "json" else f'"{report_id}.{form}"'
    headers = {
        "ETag": etag,
        "Cache-Control": kept,
        "Link": f'</v1/reports/{report_id}>; rel="canonical"',
    }
    if is_unchanged(request, etag):
        return Response(status_code=304, headers=headers)
    if form == "json":
        return Response(body, headers=headers, media_type=MEDIA_TYPES[form])
    # A key has nothing in it that would end the quotes.
    headers["Content-Disposition"] = f'attachment; filename="{key}.{form}"'
    return StreamingResponse(
        parts(orjson.loads(body), form), headers=headers, media_type=MEDIA_TYPES[form]
    )
