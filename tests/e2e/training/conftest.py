"""Trackers for the tests of training scripts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.deployment import Deployment
from tracker.v1 import tracker_service_pb2_grpc as rpc


@pytest.fixture
def server(calm_embedded: Deployment) -> str:
    """The address of a server that is there all the time."""
    return calm_embedded.server.address


@pytest.fixture
def stub(calm_embedded: Deployment) -> rpc.TrackerServiceStub:
    """To ask that server."""
    return calm_embedded.stub()


@pytest.fixture
def embedded_with_key(tmp_path: Path) -> Iterator[str]:
    """The address of a server that wants the API key "swordfish"."""
    made = Deployment(tmp_path / "tracker", api_keys="swordfish")
    try:
        yield made.start().server.address
    finally:
        made.close()
