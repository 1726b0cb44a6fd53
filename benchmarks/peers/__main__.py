"""`python -m benchmarks.peers [--quick] [--only NAME] [--json FILE]`: other trackers and this one, side by side."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers import measure
from benchmarks.peers.report import report, write_json
from benchmarks.peers.results import Result
from benchmarks.peers.trackers import TRACKERS, Tracker
from benchmarks.peers.venvs import NotInstalled
from benchmarks.peers.work import FULL, QUICK


def chosen(only: Sequence[str]) -> list[Tracker]:
    """Those whose names begin so, and this project's full form to hold them against; all when there is no `only`.

    Raises ValueError with the names that there are.
    """
    for name in only:
        if not any(tracker.key.startswith(name) for tracker in TRACKERS):
            raise ValueError(f"--only {name}: it must be one of {', '.join(tracker.key for tracker in TRACKERS)}")
    wanted = [one for one in TRACKERS if not only or any(one.key.startswith(name) for name in only)]
    return wanted if any(one.ours for one in wanted) else [TRACKERS[0], *wanted]


def main() -> None:
    """Measures what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything: at most 3 minutes")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="only this tracker; may be repeated"
    )
    parser.add_argument("--json", type=Path, help="also write everything to this file")
    options = parser.parse_args()
    try:
        trackers = chosen(options.only)
    except ValueError as problem:
        parser.error(str(problem))
    for tracker in trackers:
        _install(tracker)
    work = QUICK if options.quick else FULL
    load = os.getloadavg()[0]
    began = time.monotonic()
    results: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="tracker-peers-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        for tracker in trackers:
            place = Path(name) / tracker.key
            place.mkdir()
            for result in measure.measure(tracker, work, place, began + work.budget_seconds):
                rate = result.figures.get("bulk")
                said = f"{rate:,.0f} points/s" if rate else next(iter(result.missing.values()), "")
                print(f"{time.monotonic() - began:4.0f} s  {result.name}, {result.way}: {said}", file=sys.stderr)
                results.append(result)
    print(report(results, work, load))
    if options.json:
        write_json(results, work, load, options.json)


def _install(tracker: Tracker) -> None:
    """Before the clock runs. What goes wrong is reported when its turn comes."""
    print(f"{tracker.name}: its environment ...", file=sys.stderr)
    try:
        measure.install(tracker)
    except NotInstalled as reason:
        print(f"{tracker.name}: not installed: {reason}", file=sys.stderr)


if __name__ == "__main__":
    main()
