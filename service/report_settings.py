"""Settings of reports: what a query may take, and how long an answer is good."""

from __future__ import annotations

from pydantic import Field

from anabranch.settings import Section


class ReportSettings(Section):
    query_seconds: float = Field(
        10.0, gt=0, le=600, description="How long a query of a report or series may take; then 503."
    )
    query_memory_mb: int = Field(
        1_000, ge=50, description="How much memory such a query may take; then 503."
    )
    kept_seconds: float = Field(
        1.0,
        ge=0,
        le=3_600,
        description="So long an answer is good even when new events have been applied meanwhile; "
        "longer when it took long, see busy_share.",
    )
    busy_share: float = Field(
        0.2,
        gt=0,
        le=1,
        description="Of the time, so much may go into making one answer anew: at 0.2, what took "
        "1 s is good for 4 s more, and nothing for more than 60 s; 1 turns it off.",
    )
    at_once: int = Field(
        4, ge=1, description="So many answers of each kind are made at a time; others wait."
    )
    cache_mb: int = Field(64, ge=0, description="Memory for kept answers of each kind.")
