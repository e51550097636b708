from __future__ import annotations

from typing import Any

import faust

from schemas.topics import AUDIT
from streams.app import Accept, place_of, source


def audit(app: faust.App, accept: Accept) -> None:
    @app.agent(source(app, AUDIT), name="audit", concurrency=1)
    async def audit(stream: Any) -> None:
        async for event in stream.noack().events():
            await accept(place_of(event), event.message.value)
