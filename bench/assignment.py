"""What does a decision cost in process, beside GrowthBook's Python SDK?

100 running experiments of two to four variations, as a product has them: targeting by language,
level, app version and device, coverage, namespaces, a holdout, languages that are off, and
prerequisites. 2,000 units with six attributes. GrowthBook's SDK gets the same definitions as its
own features, from the same code that serves them to it. First every unit is decided by both in
every experiment, and all answers must agree. Then the same calls are timed, each by itself, the
candidates in turns: percentiles are of wall time, means of the thread's CPU time, which others on
the machine do not disturb, and without the clock's own cost. Nothing of what either does once
for a unit (a new GrowthBook object, its attributes) is in the figures. "Sessions": 200 at a time,
each with the same five experiments on each of its ten turns, so nine of ten questions were asked
before. "Each once": no unit asks for an experiment twice. "Logged" is with an emitter's queue,
from which nobody takes here: an exposure is built and put there for the first of equal ones.

    python -m bench.assignment [--runs 5] [--units 2000] [--calls 50000]
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any, NamedTuple

import growthbook

from anabranch import EmitterSettings, Event, Experiments, SyncEmitter
from anabranch.definition_set import DefinitionSet
from anabranch.definition_sources import Document
from anabranch.intake import Intake
from bench.machine import facts, keep
from service.growthbook_features import features

_EXPERIMENTS = 100
_SESSIONS = 200
_TURNS = 10
_PER_TURN = 5
_PER_SESSION = _TURNS * _PER_TURN
_LOCALES = ("en", "de", "fr", "pt-BR", "ja", "en-GB")

Figures = dict[str, list[float]]


class Timed(NamedTuple):
    mean_us: float
    """Of CPU."""
    each_ns: list[int]
    """Of wall time."""


class Call(NamedTuple):
    experiment: str
    units: dict[str, str]
    attributes: dict[str, Any]


class Queue:
    """An emitter as far as its caller pays for it."""

    def __init__(self) -> None:
        self.intake = Intake(10_000_000, strict=False, wake=lambda: None)

    def emit(self, event: Event) -> bool:
        return self.intake.offer(event)


def documents(chosen: random.Random) -> list[Document]:
    held = Document("holdout:winter", 1, "running", {"unit": "player", "share": 500})
    return [*(_experiment(number, chosen) for number in range(_EXPERIMENTS)), held]


def _experiment(number: int, chosen: random.Random) -> Document:
    count = chosen.choice((2, 2, 2, 3, 4))
    shares = [10_000 // count] * count
    shares[0] += 10_000 - sum(shares)
    definition: dict[str, Any] = {
        "key": f"experiment_{number}",
        "unit": chosen.choice(("session", "session", "player")),
        "variations": [
            {
                "key": f"v{place}",
                "weight": share,
                "params": {"max_acts": place, "tone": f"t{place}"},
            }
            for place, share in enumerate(shares)
        ],
        "params": {"max_output_tokens": 600},
        "coverage": chosen.choice((10_000, 10_000, 5_000, 2_000)),
        "targeting": _targeting(chosen),
        "dimensions": ["level", "platform"],
    }
    if chosen.random() < 0.2:
        start = chosen.choice((0, 5_000))
        space = f"space_{chosen.randrange(5)}"
        definition["namespace"] = {"name": space, "start": start, "end": start + 5_000}
    if chosen.random() < 0.1:
        definition["holdout"] = "winter"
    if chosen.random() < 0.1:
        definition["locales"] = {"de": False, "pt-BR": False}
    if number >= 20 and chosen.random() < 0.1:
        # Of the first ones, so that none goes round in circles.
        wanted = {"experiment": f"experiment_{chosen.randrange(20)}", "variations": ["v0", "v1"]}
        definition["prerequisites"] = [wanted]
    return Document(definition["key"], 3, "running", definition)


def _params(place: int) -> dict[str, Any]:
    return {"max_acts": place, "tone": f"tone {place}"}


def _targeting(chosen: random.Random) -> dict[str, Any]:
    targeting: dict[str, Any] = {}
    if chosen.random() < 0.4:
        targeting["locale"] = {"$in": chosen.sample(_LOCALES, 4)}
    if chosen.random() < 0.4:
        targeting["level"] = {"$gte": chosen.randrange(30)}
    if chosen.random() < 0.3:
        targeting["app"] = {"$vgte": chosen.choice(("2.1.0", "2.10.0", "1.9.3"))}
    if chosen.random() < 0.2:
        targeting["platform"] = {"$ne": "web"}
    return targeting


def units(count: int, chosen: random.Random) -> list[dict[str, Any]]:
    return [
        {
            "session": f"{chosen.getrandbits(128):032x}",
            "player": f"{chosen.getrandbits(128):032x}",
            "locale": chosen.choice(_LOCALES),
            "level": chosen.randrange(100),
            "app": chosen.choice(("1.9.0", "2.0.4", "2.10.1", "3.0.0-beta")),
            "platform": chosen.choice(("ios", "android", "web")),
        }
        for _ in range(count)
    ]


class Peer:
    """GrowthBook's SDK, one object for all units."""

    def __init__(self, definitions: DefinitionSet) -> None:
        payload = json.loads(json.dumps(features(definitions, time.time(), 0).payload))
        self.sdk: Any = growthbook.GrowthBook(
            attributes={}, features=payload["features"], savedGroups=payload["savedGroups"]
        )

    def time(self, calls: list[Call]) -> Timed:
        def decide(experiment: str, _: object, attributes: dict[str, Any]) -> None:
            # Instead of set_attributes, which would be in the figures.
            self.sdk._attributes = attributes
            self.sdk.eval_feature(experiment)

        return time_each(decide, calls)


def check(definitions: DefinitionSet, peer: Peer, all_units: list[dict[str, Any]]) -> int:
    """How many of the answers had a unit in the experiment."""
    inside = 0
    for attributes in all_units:
        peer.sdk.set_attributes(attributes)
        for experiment in definitions.plans:
            ours = definitions.assign(experiment, {}, attributes)
            theirs = peer.sdk.eval_feature(experiment)
            result = theirs.experimentResult
            variation = result.key if result is not None and result.inExperiment else None
            expected = ours.variation if ours.in_experiment else None
            if variation != expected or theirs.value != ours.params:
                raise SystemExit(f"{experiment}, {attributes}: {ours} here, {theirs.value} there")
            inside += ours.in_experiment
    return inside


def nothing(experiment: str, of_call: object, attributes: object) -> None:
    """What the clock and a call cost, which is in every figure as it is taken."""


def time_each(decide: Callable[..., object], calls: list[Call]) -> Timed:
    """Its mean is without what the clock and a call cost, its single times are with it."""
    spent: list[int] = []
    used = _mean_us(decide, calls, spent)
    return Timed(used - _mean_us(nothing, calls, []), spent)


def _mean_us(decide: Callable[..., object], calls: list[Call], spent: list[int]) -> float:
    clock, used = time.perf_counter_ns, time.thread_time()
    for experiment, of_call, attributes in calls:
        started = clock()
        decide(experiment, of_call, attributes)
        spent.append(clock() - started)
    return (time.thread_time() - used) / len(calls) * 1e6


def record(figures: Figures, name: str, timed: Timed) -> None:
    cuts = quantiles(timed.each_ns, n=100)
    figures[f"{name}: mean (us of CPU)"].append(timed.mean_us)
    figures[f"{name}: p50 (us)"].append(cuts[49] / 1000)
    figures[f"{name}: p99 (us)"].append(cuts[98] / 1000)
    figures[f"{name}: max (us)"].append(max(timed.each_ns) / 1000)


@contextmanager
def experiments_of(found: list[Document], emitter: Any) -> Iterator[Experiments]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "definitions.json"
        path.write_text(json.dumps({"documents": [one._asdict() for one in found]}))
        with Experiments.from_file(path, emitter=emitter) as experiments:
            yield experiments


def in_sessions(
    everybody: list[dict[str, Any]], count: int, chosen: random.Random
) -> Iterator[Call]:
    waiting = [*everybody] * (1 + count // (len(everybody) * _PER_SESSION))
    open_now: list[list[Call]] = []
    for _ in range(count // _PER_TURN):
        if len(open_now) < _SESSIONS:
            of_unit = waiting.pop()
            asked = chosen.sample(range(_EXPERIMENTS), _PER_TURN)
            open_now.append([_call(number, of_unit) for number in asked] * _TURNS)
        session = chosen.choice(open_now)
        yield from session[:_PER_TURN]
        del session[:_PER_TURN]
        if not session:
            open_now.remove(session)


def each_once(everybody: list[dict[str, Any]], count: int, chosen: random.Random) -> Iterator[Call]:
    for pair in chosen.sample(range(len(everybody) * _EXPERIMENTS), count):
        unit, number = divmod(pair, _EXPERIMENTS)
        yield _call(number, everybody[unit])


def _call(number: int, of_unit: dict[str, Any]) -> Call:
    kinds = {"session": of_unit["session"], "player": of_unit["player"]}
    return Call(f"experiment_{number}", kinds, of_unit)


def measure(
    found: list[Document], peer: Peer, name: str, calls: list[Call], figures: Figures
) -> None:
    bare = time_each(DefinitionSet.of(found).assign, calls)
    theirs = peer.time(calls)
    record(figures, f"{name}, DefinitionSet.assign", bare)
    with experiments_of(found, SyncEmitter(settings=EmitterSettings(enabled=False))) as off:
        ours = time_each(off.assign, calls)
        record(figures, f"{name}, Experiments.assign", ours)
    with experiments_of(found, Queue()) as on:
        record(figures, f"{name}, Experiments.assign, logged", time_each(on.assign, calls))
    record(figures, f"{name}, GrowthBook eval_feature", theirs)
    for of_ours, spent in (("DefinitionSet.assign", bare), ("Experiments.assign", ours)):
        figures[f"{name}: GrowthBook's mean / {of_ours}'s"].append(theirs.mean_us / spent.mean_us)


def measure_all(found: list[Document], peer: Peer, calls: list[Call], figures: Figures) -> None:
    definitions = DefinitionSet.of(found)
    keys = list(definitions.plans)

    def theirs_of_all(_: object, of_call: object, attributes: dict[str, Any]) -> None:
        peer.sdk._attributes = attributes
        for key in keys:
            peer.sdk.eval_feature(key)

    def ours_of_all(_: object, of_call: dict[str, str], attributes: dict[str, Any]) -> None:
        definitions.assign_all(of_call, attributes)

    ours, theirs = time_each(ours_of_all, calls), time_each(theirs_of_all, calls)
    record(figures, "all 100 at once, assign_all", ours)
    record(figures, "all 100 at once, GrowthBook", theirs)
    figures["all 100 at once: GrowthBook's mean / assign_all's"].append(
        theirs.mean_us / ours.mean_us
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.assignment")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--units", type=int, default=2_000)
    parser.add_argument("--calls", type=int, default=50_000)
    options = parser.parse_args()
    machine = facts()
    chosen = random.Random(5)
    found, everybody = documents(chosen), units(options.units, chosen)
    definitions = DefinitionSet.of(found)
    if definitions.unusable:
        raise SystemExit(f"definitions that cannot be used: {definitions.unusable}")
    peer = Peer(definitions)
    inside = check(definitions, peer, everybody)
    answers = len(everybody) * _EXPERIMENTS
    print(f"{answers:,} answers agree, {inside / answers:.0%} of them in the experiment")
    workloads = {
        "sessions": list(in_sessions(everybody, options.calls, chosen)),
        "each once": list(each_once(everybody, options.calls, chosen)),
    }
    at_once = [_call(0, of_unit) for of_unit in everybody[:200]]
    figures: Figures = defaultdict(list)
    measure(found, peer, "warm", workloads["each once"][:2_000], defaultdict(list))
    for _ in range(options.runs):
        for name, calls in workloads.items():
            measure(found, peer, name, calls, figures)
        measure_all(found, peer, at_once, figures)
    notes = [" ".join(paragraph.split()) for paragraph in (__doc__ or "").split("\n\n")[1:2]]
    notes.append(f"{answers:,} answers agreed; {inside / answers:.0%} were in the experiment.")
    keep("assignment", "Assignment beside GrowthBook's Python SDK", machine, figures, notes)


if __name__ == "__main__":
    main()
