"""Who runs, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.engine.programs import Programs

_PEERS = "bench.engine.peers"


@dataclass(frozen=True, slots=True)
class Contestant:
    name: str
    title: str
    command: Callable[[Programs], list[str]]
    """Raises Missing where it cannot be started."""
    ours: bool = False
    stores: bool = True
    share: int = 1
    """The slow ones get fewer events: the others' number divided by this."""
    unit_sums: bool = True
    """Of ours: whether it keeps sums by unit, too."""

    @property
    def environment(self) -> dict[str, str]:
        return {"ANABRANCH_WORKER__UNIT_SUMS": str(self.unit_sums).lower()} if self.ours else {}


def _worker(programs: Programs) -> list[str]:
    return [*programs.with_our_python("deploy.main"), "worker"]


CONTESTANTS = (
    Contestant("ours", "ours: exactly once, with sums by unit", _worker, ours=True),
    Contestant(
        *("ours-lean", "ours: exactly once, without sums by unit", _worker),
        ours=True,
        unit_sums=False,
    ),
    Contestant(
        *("discard", "aiokafka, read and discarded (the ceiling)"),
        lambda programs: programs.with_our_python(f"{_PEERS}.discard"),
        stores=False,
    ),
    Contestant(
        *("jvm", "JVM: kafka-clients, Avro, HashMap, RowBinary"),
        lambda programs: programs.java("bench.Peer"),
    ),
    Contestant(
        *("confluent", "confluent-kafka and fastavro"),
        lambda programs: programs.with_our_python(f"{_PEERS}.confluent_fastavro"),
    ),
    Contestant(
        *("aiokafka", "aiokafka and fastavro"),
        lambda programs: programs.with_our_python(f"{_PEERS}.aiokafka_fastavro"),
    ),
    Contestant(
        *("bytewax", "bytewax"),
        lambda programs: programs.with_python_of_peers(f"{_PEERS}.bytewax_flow"),
    ),
    Contestant(
        *("quix", "Quix Streams, batching sink"),
        lambda programs: programs.with_python_of_peers(f"{_PEERS}.quix_streams"),
    ),
    Contestant(
        *("faust", "stock Faust, noack_take"),
        lambda programs: programs.with_our_python(f"{_PEERS}.stock_faust"),
        share=5,
    ),
)
