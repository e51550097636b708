"""Which agent reads which topic? One file an agent, six lines each.

`noack`: the ledger commits, after the rows are stored. Faust must not.
"""

from __future__ import annotations

from streams.agents.audit import audit
from streams.agents.exposures import exposures
from streams.agents.invites import invites
from streams.agents.outcomes import outcomes
from streams.agents.turn_metrics import turn_metrics

AGENTS = (exposures, turn_metrics, invites, outcomes, audit)
