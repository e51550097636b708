"""What has to be known of many units so that the rest follows, and so that it adds up?

The number of units, the mean of each value, and the sums of products of deviations from the means.
Sums of squares would add up as well, but lose the variance of values that are large and near each
other; deviations do not. Two parts are added by the formula of Chan, Golub and LeVeque (1983,
"Algorithms for computing the sample variance", The American Statistician 37).

Where a database can only give sums, let it take them about a shift: any constant near the mean,
the same for all parts. A shift of 0 gives plain sums, which are enough while the standard deviation
is more than a thousandth of the mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_EPSILON = float(np.finfo(np.float64).eps)


def _overflowing() -> np.errstate:
    """Overflow is no accident here: it gives infinite moments, which have no verdict."""
    return np.errstate(over="ignore", invalid="ignore")


@dataclass(frozen=True, slots=True)
class Moments:
    """Of one value per unit: add those of two halves and you get those of the whole."""

    units: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """The sum of squared deviations from the mean."""

    def __post_init__(self) -> None:
        if self.units < 0:
            raise ValueError(f"moments are of 0 or more units, not of {self.units}")
        if self.squares < 0:
            raise ValueError(f"a sum of squared deviations is not negative, as {self.squares} is")

    @classmethod
    def of(cls, values: npt.ArrayLike) -> Moments:
        array = np.asarray(values, dtype=np.float64)
        if not array.size:
            return cls()
        with _overflowing():
            rough = float(array.mean())
            deviations = array - rough
            # A second pass takes out what the rough mean was off by.
            missed = float(deviations.mean())
            squares = float(np.square(deviations).sum())
        left = _known(squares - array.size * missed * missed, squares * _rounding(array.size))
        return cls(array.size, rough + missed, left)

    @classmethod
    def from_sums(cls, units: int, total: float, squares: float, shift: float = 0.0) -> Moments:
        """From the sums of `value - shift` and of its square."""
        if units == 0:
            return cls()
        deviation = total / units
        left = _known(squares - total * deviation, squares * _rounding(units))
        return cls(units, shift + deviation, left)

    @classmethod
    def from_variance(cls, units: int, mean: float, variance: float) -> Moments:
        """From a variance that divides by `units - 1`, such as the engine's `varSampStable`.

        Of one unit the engine gives what is no number; its sum of squares is 0 all the same.
        """
        return cls(units, mean, variance * (units - 1)) if units > 1 else cls(units, mean)

    def __add__(self, other: Moments) -> Moments:
        units = self.units + other.units
        if not self.units or not other.units:
            return other if other.units else self
        gap = other.mean - self.mean
        weight = other.units / units
        return Moments(
            units,
            self.mean + gap * weight,
            self.squares + other.squares + gap * gap * self.units * weight,
        )

    @property
    def variance(self) -> float:
        """Of a unit, dividing by `units - 1`; not a number where there is no second unit."""
        return self.squares / (self.units - 1) if self.units > 1 else math.nan


@dataclass(frozen=True, slots=True)
class JointMoments:
    """Of several values per unit, in an order that the caller keeps."""

    units: int
    means: tuple[float, ...]
    products: tuple[tuple[float, ...], ...]
    """Row i, column j: the sum of products of the deviations of value i and of value j."""

    def __post_init__(self) -> None:
        width = len(self.means)
        if len(self.products) != width or any(len(row) != width for row in self.products):
            raise ValueError(f"{width} means go with {width} rows of {width} products each")

    @classmethod
    def of(cls, *columns: npt.ArrayLike) -> JointMoments:
        """One column per value, one row per unit."""
        rows = np.asarray(columns, dtype=np.float64)
        if not rows.shape[1]:
            return cls.from_sums(0, [0.0] * len(rows), [[0.0] * len(rows)] * len(rows))
        with _overflowing():
            means = rows.mean(axis=1)
            deviations = rows - means[:, None]
            missed = deviations.mean(axis=1)
            products = deviations @ deviations.T - rows.shape[1] * np.outer(missed, missed)
        return cls._checked(rows.shape[1], means + missed, products)

    @classmethod
    def from_sums(
        cls,
        units: int,
        totals: Sequence[float],
        products: Sequence[Sequence[float]],
        shifts: Sequence[float] | None = None,
    ) -> JointMoments:
        """From the sums of `value - shift` and of their products by pairs."""
        sums, about = np.asarray(totals, dtype=float), np.asarray(shifts or [0.0] * len(totals))
        raw = np.asarray(products, dtype=float)
        if units == 0:
            return cls._checked(0, np.zeros_like(sums), np.zeros_like(raw))
        with _overflowing():
            centred = raw - np.outer(sums, sums) / units
        for i in range(len(sums)):
            squares = _known(float(centred[i, i]), float(raw[i, i]) * _rounding(units))
            if squares == 0:
                centred[i, :] = centred[:, i] = 0.0
        return cls._checked(units, about + sums / units, centred)

    @classmethod
    def from_covariances(
        cls, units: int, means: Sequence[float], covariances: Sequence[Sequence[float]]
    ) -> JointMoments:
        """From covariances that divide by `units - 1`, such as the engine's `covarSampStable`."""
        shape = (len(means), len(means))
        known = np.asarray(covariances, dtype=float) if units > 1 else np.zeros(shape)
        return cls._checked(units, np.asarray(means, dtype=float), known * max(0, units - 1))

    @classmethod
    def _checked(cls, units: int, means: Floats, products: Floats) -> JointMoments:
        return cls(units, tuple(means.tolist()), tuple(map(tuple, products.tolist())))

    def __add__(self, other: JointMoments) -> JointMoments:
        if len(self.means) != len(other.means):
            raise ValueError(
                f"moments of {len(self.means)} and of {len(other.means)} values do not add"
            )
        units = self.units + other.units
        if not self.units or not other.units:
            return other if other.units else self
        weight = other.units / units
        with _overflowing():
            gaps = np.asarray(other.means) - np.asarray(self.means)
            means = np.asarray(self.means) + gaps * weight
            products = np.asarray(self.products) + np.asarray(other.products)
            products += np.outer(gaps, gaps) * (self.units * weight)
        return self._checked(units, means, products)

    def one(self, index: int) -> Moments:
        return Moments(self.units, self.means[index], self.products[index][index])

    def product(self, left: Sequence[float], right: Sequence[float]) -> float:
        """The sum of products of deviations of two sums of the values, weighted by these."""
        with _overflowing():
            terms = np.outer(left, right) * np.asarray(self.products)
            total = float(terms.sum())
            noise = 64 * _EPSILON * float(np.abs(terms).sum())
        return 0.0 if abs(total) <= noise < math.inf else total

    def along(self, weights: Sequence[float]) -> Moments:
        """Of the weighted sum of a unit's values. Influence values are such sums."""
        mean = float(np.dot(weights, self.means))
        squares = self.product(weights, weights)
        return Moments(self.units, mean, squares if not squares < 0 else 0.0)


def _known(squares: float, noise: float) -> float:
    return 0.0 if squares <= noise < math.inf else squares


def _rounding(units: int) -> float:
    """How far off a sum of squares may be, as a share of it, when it was added one by one.

    What is left of it below that cannot be told from zero, and is zero.
    """
    return max(64, units) * _EPSILON
