"""Where a page of runs ended, as its token says."""

from __future__ import annotations

import json

from tracker.internal.v1 import envelope_pb2 as internal
from tracker_server.errors import InvalidRequest, Violation
from tracker_server.store.run_list import RunPlace


def run_place(token: internal.PageToken) -> RunPlace:
    """Raises InvalidRequest for a token that no server made."""
    try:
        keys = json.loads(token.order_values) if token.order_values else []
    except ValueError:
        keys = None
    if not isinstance(keys, list) or not all(isinstance(key, int | float | str | None) for key in keys):
        raise InvalidRequest([Violation("page_token", "is no token that a server made; take next_page_token as it is")])
    return RunPlace(token.key, token.time_unix_ms, tuple(keys))
