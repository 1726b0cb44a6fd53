"""Names of what is cached together: bumping a scope's generation makes all that is cached in it worthless."""

from __future__ import annotations

EXPERIMENT_LIST = "experiments"
"""The list of experiments and their run counts."""
STATS = "stats"
"""The numbers over everything."""


def experiment_scope(experiment_id: str) -> str:
    """An experiment's summary."""
    return f"experiment:{experiment_id}"
