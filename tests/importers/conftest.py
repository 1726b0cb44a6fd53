"""A tracker for the tests of importers, and real logs that are slow to write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.deployment import Deployment
from tests.importers.stub_client import StubClient
from tests.importers.writers import write_mlflow, write_wandb


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubClient]:
    """Of one embedded tracker for all of them; every test has runs of its own."""
    deployment = Deployment(tmp_path_factory.mktemp("tracker"))
    try:
        yield StubClient(deployment.start().stub())
    finally:
        deployment.close()


@pytest.fixture(scope="session")
def mlruns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `write_mlflow` wrote. Not to be changed."""
    return write_mlflow(tmp_path_factory.mktemp("mlflow") / "mlruns")


@pytest.fixture(scope="session")
def wandb_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `write_wandb` wrote. Not to be changed."""
    return write_wandb(tmp_path_factory.mktemp("offline"))
