"""Which agent reads which topic? One file an agent, six lines each.

`noack`: the ledger commits, after the rows are stored, or `assigning`, after the answers are. Faust
must not.
"""

from __future__ import annotations

from streams.agents.assignments import assignments
from streams.agents.audit import audit
from streams.agents.exposures import exposures
from streams.agents.invites import invites
from streams.agents.outcomes import outcomes
from streams.agents.turn_metrics import turn_metrics

INGESTING = (exposures, turn_metrics, invites, outcomes, audit)
ASSIGNING = (assignments,)
