"""Trackers for the tests of training scripts."""

from __future__ import annotations

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
