from __future__ import annotations

from typing import Any

import faust

from schemas.topics import ASSIGNMENT_REQUESTS
from streams.app import Accept, place_of, source


def assignments(app: faust.App, accept: Accept) -> None:
    @app.agent(source(app, ASSIGNMENT_REQUESTS), name="assignments", concurrency=1)
    async def assignments(stream: Any) -> None:
        async for event in stream.noack().events():
            await accept(place_of(event), event.message.value)
