"""The `tracker` command. With the base install only `tracker sync` works: the rest needs the extra `cli`."""

from __future__ import annotations

import importlib.util


def main() -> None:
    """Runs the command line."""
    if importlib.util.find_spec("typer") and importlib.util.find_spec("rich"):
        from tracker_client.cli.app import run
    else:
        from tracker_client.cli.fallback import run
    run()
