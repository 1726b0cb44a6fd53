"""`python -m benchmarks [--form full|embedded] [--only NAME] [--quick] [--json FILE]`: measures, and prints one table."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks import forms
from benchmarks.figures import Figure, machine, table, write_json
from benchmarks.rows import GROUPS

_QUICK = 10
"""By how much less --quick does."""


def main() -> None:
    """Measures what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--form", choices=("full", "embedded"), help="only this form")
    names = [group.name for group in GROUPS]
    parser.add_argument(
        "--only", action="append", choices=names, metavar="NAME", help=f"these rows: {', '.join(names)}"
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the points and calls")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    figures: list[Figure] = []
    for name, open_form in (("full", forms.full), ("embedded", forms.embedded)):
        wanted = [
            group
            for group in GROUPS
            if group.name in (options.only or names) and not (group.full_only and name == "embedded")
        ]
        if options.form not in (None, name) or not wanted:
            continue
        with open_form() as form:
            for group in wanted:
                began = time.perf_counter()
                for figure in group.measure(form, _QUICK if options.quick else 1):
                    print(f"{figure.name}: {figure.value:,.0f} {figure.unit}", flush=True)
                    figures.append(figure)
                print(f"({group.name}: {time.perf_counter() - began:.0f} s)", flush=True)
    print(f"\n{machine()}\n\n{table(figures)}")
    if options.json:
        write_json(figures, options.json)


if __name__ == "__main__":
    main()
