"""What has to be known of an experiment's units so that its report follows?

For each variation, and each segment of it: how many units, how many exposures, and for each metric
the joint moments of the values that its kind needs. The unit of analysis is what was randomised; a
unit that was exposed and did nothing has zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from analysis.metric_catalogue import Metric
from analysis.moments import JointMoments
from analysis.verdict import Interval, NoVerdict

BY_LOCALE = "locale"


class Multiple(StrEnum):
    """What becomes of a unit that was exposed to more than one variation. All are counted."""

    EXCLUDE = "exclude"
    FIRST = "first"
    """It belongs to the variation of its first exposure, with all that it did."""
    BOTH = "both"
    """It belongs to each variation it saw; a turn or invite counts where it says it happened."""


@dataclass(frozen=True, slots=True)
class StatisticsRequest:
    experiment: str
    variations: tuple[str, ...]
    """In the definition's order; units of others are counted as unknown."""
    metrics: Mapping[str, Metric]
    since: datetime | None = None
    """Of first exposures: from here on."""
    until: datetime | None = None
    """Of first exposures: this moment is not among them."""
    versions: tuple[int, int] | None = None
    """Of the definition that decided the first exposure: from and to, both included."""
    multiple: Multiple = Multiple.EXCLUDE
    by: str | None = None
    """`locale`, or an attribute that the definition declares as a dimension."""
    level: float = 0.95
    """Of the intervals of quantiles, which are looked up in the values."""


class QuantileMethod(StrEnum):
    ORDER_STATISTICS = "order_statistics"
    """One value per unit; exact for any shape of data."""
    CLUSTERED = "clustered_order_statistics"
    """Many values per unit; the ends are looked up among all values."""
    CLUSTERED_HISTOGRAM = "clustered_histogram"
    """The same in histograms, with the spread of units guessed from a part of them."""


@dataclass(frozen=True, slots=True)
class QuantileStatistics:
    value: float
    values: int
    """How many the quantile is of."""
    ends: Interval
    coverage: float
    """How probable it is that the quantile lies between the ends."""
    method: QuantileMethod


@dataclass(frozen=True, slots=True)
class MetricStatistics:
    """Of one metric in one arm."""

    moments: JointMoments
    """Of the value; of a ratio: of numerator and denominator. With a past, the same from before
    the first exposure follow. Of a proportion's value, 0 or 1. Empty for quantiles."""
    quantile: QuantileStatistics | NoVerdict | None = None


@dataclass(frozen=True, slots=True)
class ArmStatistics:
    units: int
    exposures: int
    metrics: Mapping[str, MetricStatistics]


@dataclass(frozen=True, slots=True)
class UnitStatistics:
    request: StatisticsRequest
    arms: Mapping[str, ArmStatistics]
    """Of every variation in the request, also of one without units."""
    segments: Mapping[str, Mapping[str, ArmStatistics]] = field(default_factory=dict)
    """By the segment's value, then variation. Empty when nothing was asked for."""
    multiple_exposures: int = 0
    """Units exposed to more than one variation, whatever became of them."""
    unknown_variations: Mapping[str, int] = field(default_factory=dict)
    """Units of variations that the request does not name, which are in no arm."""
    caps: Mapping[str, float] = field(default_factory=dict)
    """By metric (`key`, or `key.numerator` and `key.denominator`): what a percentile came to."""
    first_exposure: datetime | None = None
    last_first_exposure: datetime | None = None
    """When the newest unit came."""
    without_past: Mapping[str, NoVerdict] = field(default_factory=dict)
    """By metric: why nothing is known from before the first exposure."""
