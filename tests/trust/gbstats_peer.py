"""The same cases by us and by GrowthBook's statistics, wherever the formula is the same.

Where it is not, ours is made the same: their relative interval is that of the delta method (ours by
`delta_relative`), their slope of CUPED is that of all units as one (ours is computed with theirs).
Their quantiles scale an interval that takes turns for units, so only the variance of the share
below the quantile is compared.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from analysis.bayes import FLAT, posterior
from analysis.cuped import adjusted_means
from analysis.effects import compare, critical_t, delta_relative
from analysis.estimates import difference, mean
from analysis.moments import JointMoments
from analysis.ratios import ratio
from analysis.sequential import Tuning, two_sided
from deploy.bootstrap import private_uv, uv_environment
from tests.trust.kinds import Pair, known

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
NEAR_ENOUGH = 1e-9
"""Relative. A p-value of theirs is 1 - cdf, which is only good to 1e-16 of one: absolute there."""

Case = dict[str, Any]


class Missing(Exception):  # noqa: N818  # a fact; there is no comparison then
    """The environment cannot be made here; the text says why."""


def main() -> int:
    try:
        python = _environment()
    except Missing as missing:
        print(f"no comparison with gbstats: {missing}")
        return 0
    cases = list(_cases())
    answer = subprocess.run(
        [str(python), str(HERE / "gbstats_answers.py")],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=True,
    )
    worst: dict[tuple[str, str], float] = {}
    for case, theirs in zip(cases, json.loads(answer.stdout), strict=True):
        for name, ours in _ours(case, theirs).items():
            key = (case["kind"], name)
            worst[key] = max(worst.get(key, 0.0), _apart(name, ours, theirs[name]))
    for (kind, name), apart in worst.items():
        print(f"{kind:10} {name:18} {apart:8.1e}{'' if apart <= NEAR_ENOUGH else '  NO'}")
    broken = sum(apart > NEAR_ENOUGH for apart in worst.values())
    print(f"{len(cases)} cases, {len(worst)} figures, {broken} further apart than {NEAR_ENOUGH}")
    return 1 if broken else 0


def _cases() -> Iterator[Case]:
    rng = np.random.default_rng(7)
    for _ in range(100):
        units = [int(rng.integers(50, 5_000)) for _ in range(2)]
        for kind in ("mean", "ratio", "cuped", "quantile"):
            arms = [_sums(kind, rng, size, 1 + 0.1 * at) for at, size in enumerate(units)]
            yield {"kind": kind, "arms": arms, "planned": int(rng.integers(100, 20_000))}


def _sums(kind: str, rng: np.random.Generator, units: int, scale: float) -> Case:
    eager = rng.gamma(2, 1, units)
    if kind == "quantile":
        # Turns that are below the quantile, of the turns that there are.
        x = 1.0 + rng.poisson(4, units)
        y = rng.binomial(x.astype(int), 0.5 + 0.5 * rng.beta(2, 2, units)).astype(float)
    else:
        x = 1.0 + rng.poisson(2 * eager)
        y = scale * eager * x + rng.normal(0, 1, units)
    found = {"units": units, "y": y.sum(), "x": x.sum()}
    return found | {"yy": (y * y).sum(), "xx": (x * x).sum(), "xy": (x * y).sum()}


def _joint(sums: Mapping[str, float]) -> JointMoments:
    products = [[sums["yy"], sums["xy"]], [sums["xy"], sums["xx"]]]
    return JointMoments.from_sums(int(sums["units"]), [sums["y"], sums["x"]], products)


def _ours(case: Case, theirs: Mapping[str, float]) -> dict[str, float]:
    arms = [_joint(sums) for sums in case["arms"]]
    pair: Pair
    match case["kind"]:
        case "mean":
            pair = mean(arms[0].one(0)), mean(arms[1].one(0))
        case "ratio":
            pair = known(ratio(arms[0])), known(ratio(arms[1]))
        case "cuped":
            first, second = known(adjusted_means(arms, theta=theirs["theta"])).arms
            pair = first, second
        case _:
            return {"variance of share": known(ratio(arms[0])).squared_error}
    once, planned = known(compare(*pair)), Tuning(theirs["rho_squared"])
    # Theirs has separate variances alone, ours the greater error of separate and pooled ones.
    always = two_sided(known(difference(*pair)), planned)
    belief = known(posterior(*pair, FLAT))
    found = {
        "effect": once.absolute.value,
        "degrees": once.degrees,
        "p_value": once.p_value,
        "low": once.absolute.interval.low,
        "high": once.absolute.interval.high,
        "always p_value": always.p_value,
        "always low": always.interval.low,
        "always high": always.interval.high,
        "chance to beat": belief.chance_to_beat_baseline,
        "expected loss": belief.expected_loss,
    }
    if case["kind"] != "cuped":
        # Their Welch degrees are the same for both; ours are asked for to have one critical value.
        relative = known(delta_relative(*pair, critical_t(0.95, theirs["relative degrees"])))
        found["relative"] = relative.value
        found["relative low"] = relative.interval.low
        found["relative high"] = relative.interval.high
    return found


def _apart(name: str, ours: float, theirs: float) -> float:
    if name in {"p_value", "chance to beat", "expected loss"}:
        return abs(ours - theirs)
    return abs(ours - theirs) / max(abs(theirs), math.ulp(0))


def _environment() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "anabranch")
    wanted = hashlib.sha256(sys.version.encode() + REQUIREMENTS.read_bytes()).hexdigest()
    environment = cache / f"trust-gbstats-{wanted[:12]}"
    python, done = environment / "bin" / "python", environment / ".installed"
    if not done.exists():
        print("making the environment of gbstats", flush=True)
        uv = shutil.which("uv") or private_uv()
        _run([uv, "venv", "--clear", "--python", sys.executable, str(environment)])
        options = ["--only-binary", ":all:", "--python", str(python)]
        _run([uv, "pip", "install", *options, "-r", str(REQUIREMENTS)])
        done.touch()
    return python


def _run(command: list[str]) -> None:
    answer = subprocess.run(
        command, env=uv_environment(), capture_output=True, text=True, check=False
    )
    if answer.returncode != 0:
        said = (answer.stdout + answer.stderr).strip().splitlines()[-3:]
        raise Missing(f"{Path(command[0]).name} failed: {' / '.join(said)}")
