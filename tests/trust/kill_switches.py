"""The kill switch, watching all the time: how often it stops what is harmless, how soon harm.

Units come one after the other and go on taking turns while they are watched, as sessions do: so
the values of units that were looked at before change, which the theory of one look after each new
unit does not cover. What is harmless is at the threshold or within it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anabranch.definitions import KillSwitch
from analysis.estimates import Estimate, mean
from analysis.kill_switch import Watched, look
from analysis.moments import Moments
from analysis.verdict import NoVerdict
from tests.trust.studies import LEVEL, Figure

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class World:
    name: str
    harm: float = 0.0
    """How much higher the metric of the first variation beside the control is."""
    threshold: float = 0.0
    shares: tuple[float, ...] = (0.5, 0.5)
    units: int = 3_000
    at_once: bool = False
    """All units are there before the first look, and only their values grow."""
    rare: float | None = None
    """Units have a 1 with this probability, in their first turn, and else 0."""


HARMLESS = (
    World("no effect, any increase is too much"),
    World("20 % more where 20 % are allowed", harm=0.2, threshold=0.2),
    World("no effect, all units from the start", at_once=True, units=600),
    World("no effect, five variations", shares=(0.2,) * 5, units=5_000),
    World("no effect, 90:10", shares=(0.9, 0.1), units=5_000),
    World("1 % succeed, 90:10", shares=(0.9, 0.1), rare=0.01, units=8_000),
)
HARMFUL = (
    World("50 % more where 20 % are allowed", harm=0.5, threshold=0.2, units=12_000),
    World("twice as much where 20 % are allowed", harm=1.0, threshold=0.2),
    World("failures from 1 % to 5 %", harm=4.0, threshold=0.2, rare=0.01, units=8_000),
)


def kill_switches(experiments: int, looks: int, seed: int) -> Iterator[Figure]:
    for world in HARMLESS:
        stops = [stops_after(world, looks, seed + at) for at in range(experiments)]
        share = sum(units is not None for units in stops) / experiments
        slack = 4 * math.sqrt(LEVEL * (1 - LEVEL) / experiments)
        yield Figure("harmless experiments stopped, ever", world.name, share, 0, LEVEL + slack)
    for world in HARMFUL:
        stops = [stops_after(world, looks, seed + at) for at in range(experiments)]
        found = sorted(units for units in stops if units is not None)
        share = len(found) / experiments
        yield Figure("harmful experiments stopped", world.name, share, 0.95, 1)
        if found:
            middle = found[len(found) // 2]
            yield Figure("units until harm is stopped, median", world.name, middle, 0, world.units)


def stops_after(world: World, looks: int, seed: int) -> int | None:
    """How many units there were when it tripped; None where it never did."""
    rng = np.random.default_rng(seed)
    rule = KillSwitch(metric="turn_ms", direction="increase", threshold=world.threshold)
    names = [f"v{number}" for number in range(len(world.shares))]
    arm = rng.choice(len(names), world.units, p=world.shares)
    factor = np.where(arm == 1, 1 + world.harm, 1.0)
    arrives = np.zeros(world.units) if world.at_once else np.arange(world.units) / world.units
    pace = rng.gamma(1, 1, world.units)
    total = np.zeros(world.units)
    if world.rare is not None:  # drawn once; a unit shows it when it comes
        total = (rng.random(world.units) < world.rare * factor).astype(float)
    for number in range(1, looks + 1):
        there = arrives < number / looks
        if world.rare is None:
            turns = rng.poisson(0.3 * pace * there)
            total = total + turns * rng.lognormal(0, 1, world.units) * factor
        found = look(rule, names[0], names[1:], _arms(names, arm, there, total))
        if any(isinstance(one, Watched) and one.trips for one in found):
            return int(there.sum())
    return None


def _arms(
    names: list[str], arm: npt.NDArray[np.int64], there: npt.NDArray[np.bool_], total: Floats
) -> dict[str, Estimate | NoVerdict]:
    return {
        name: mean(Moments.of(total[there & (arm == number)])) for number, name in enumerate(names)
    }
