"""What docs/client.md and docs/client-services.md show works as shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples.embedded import embedded_server

_ROOT = Path(__file__).resolve().parents[2]
_SECONDS = 60


def _blocks(page: str, language: str) -> list[str]:
    text = (_ROOT / "docs" / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def _run(command: list[str], directory: Path, address: str) -> str:
    done = subprocess.run(
        command,
        cwd=directory,
        env={
            **os.environ,
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
            "PYTHONPATH": os.pathsep.join((str(_ROOT), str(_ROOT / "generated"))),
            "TRACKER_SERVER": address,
        },
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


@pytest.mark.parametrize(("page", "printed"), [("client.md", 6), ("client-services.md", 11)])
def test_the_snippets_print_what_they_say(tmp_path: Path, page: str, printed: int) -> None:
    program = "\n".join(_blocks(page, "python"))
    expected = re.findall(r"print\(.*\)  # (.*)", program)
    with embedded_server(tmp_path) as address:
        said = _run([sys.executable, "-W", "error", "-c", program], tmp_path, address)
    assert said.splitlines() == expected
    assert len(expected) == printed


def test_what_was_logged_offline_is_sent_later(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(_blocks("client.md", "python")[0].replace("# True", ""))
    (commands,) = _blocks("client.md", "sh")
    with embedded_server(tmp_path) as address:
        said = _run(["sh", "-ec", commands], tmp_path, address)
        shown = _run(["tracker", "runs", "--experiment", "mnist"], tmp_path, address)
    assert "False" in said.splitlines()[0]
    assert "2,000 points" in said
    assert "completed" in shown.lower()
