"""Does every event rest once, whatever breaks? `python -m tests.chaos --minutes 30 --seed 7`.

A real Kafka, a real ClickHouse, the registry and several workers, all as processes; events whose
fate is known; and faults, chosen at random, of everything in between.
"""
