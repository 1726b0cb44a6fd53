"""grpc is told how to wait for sockets before it is imported: it listens to nobody afterwards."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_PROGRAM = """
import os, sys

class Watcher:
    def find_spec(self, name, path=None, target=None):
        if name == "grpc":
            print(os.environ.get("GRPC_EXPERIMENTS", "nothing"))

sys.meta_path.insert(0, Watcher())
import tracker_server.cli
"""


@pytest.mark.parametrize(
    ("given", "seen"), [({}, "-event_engine_listener"), ({"GRPC_EXPERIMENTS": "call_v3"}, "call_v3")]
)
def test_every_command_tells_grpc_before_it_is_imported_and_the_operator_has_the_last_word(
    given: dict[str, str], seen: str
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"} | given
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == [seen]
