"""`tracker version`."""

from __future__ import annotations

import importlib.metadata

import typer


def version() -> None:
    """Print the version of this client."""
    typer.echo(importlib.metadata.version("experiment-tracker"))
