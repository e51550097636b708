"""Log lines: one form for our own, for the SDK's and for those of the libraries we stand on.

What is logged of a request is its route, never its query or body: keys and personal data travel
there.
"""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import Processor

from service.settings import Settings


def configure_logs(settings: Settings) -> None:
    """Once, at the start of a process. Lines go to stderr: stdout is for a command's answer."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
    ]
    if settings.log_format == "json":
        render: list[Processor] = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    else:
        render = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]

    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    # At these levels they tell of every connection and every retry of a metadata request.
    for chatty in ("httpx", "httpcore", "aiokafka", "uvicorn.error"):
        logging.getLogger(chatty).setLevel(max(root.level, logging.WARNING))
