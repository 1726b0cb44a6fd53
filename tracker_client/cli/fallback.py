"""What `tracker` is without the extra `cli`: `tracker sync`, and for the rest a line that says what to install."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from tracker_client.cli.exits import USAGE
from tracker_client.cli.syncing import run_sync

_INSTALL = "pip install 'experiment-tracker[cli]'"


def run() -> NoReturn:
    """Runs the command line."""
    words = sys.argv[1:]
    if words[:1] != ["sync"]:
        what = f"tracker {words[0]}" if words and not words[0].startswith("-") else "tracker"
        print(f"tracker: `{what}` needs the extra `cli`: {_INSTALL}", file=sys.stderr)  # noqa: T201  # its output
        sys.exit(USAGE)
    given = _parser().parse_args(words[1:])
    sys.exit(run_sync(given.directory, server=given.server, api_key=given.api_key, timeout=given.timeout))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("tracker sync", description="Send what runs have left in a directory.")
    parser.add_argument("directory", nargs="?", type=Path, help="default: TRACKER_DIR, else .tracker")
    parser.add_argument("--server", help="HOST:PORT; https://HOST:PORT for TLS. Default: as the runs named it")
    parser.add_argument("--api-key", help="default: TRACKER_API_KEY")
    parser.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="give up after so long; default: when nothing goes through"
    )
    return parser
