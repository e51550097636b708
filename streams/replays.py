"""Dead letters that come back: of all replays of one, the first that is good is stored.

All replays of a letter go into the partition that it came from, where one owner at a time meets
them in the order of their offsets. It leaves a mark `applied` with the batch that stores the first
one, and leaves out those that come after it, in this batch or a later one.

Formed again after a crash, a range finds the marks of all ranges before it, as it did the first
time, and perhaps its own: a mark that names this very record does not make it a later one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from itertools import batched
from typing import Any, NamedTuple

import pyarrow as pa

from sinks.writer import Writer
from streams.decoded import Decoded
from streams.kafka_log import TopicPartition
from streams.ledger import Range
from streams.replay_headers import origin

DEAD_LETTER_MARKS = "dead_letter_marks"
