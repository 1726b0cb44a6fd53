"""What docs/client-services.md shows works as shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from examples.embedded import embedded_server

_ROOT = Path(__file__).resolve().parents[2]
_PAGE = (_ROOT / "docs" / "client-services.md").read_text()


def test_the_snippets_print_what_they_say(tmp_path: Path) -> None:
    program = "\n".join(re.findall(r"^```python\n(.*?)^```$", _PAGE, re.MULTILINE | re.DOTALL))
    expected = re.findall(r"print\(.*\)  # (.*)", program)
    with embedded_server(tmp_path) as address:
        environment = {"PYTHONPATH": f"{_ROOT}:{_ROOT / 'generated'}", "TRACKER_SERVER": address}
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == expected
    assert len(expected) == 10
