"""`tracker import` brings in logs of others, once."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

from tests.e2e.terminal import in_pipe, on_terminal, rows
from tests.e2e.tracked import Tracked


def test_import_brings_in_a_log_once(tracked: Tracked, tmp_path: Path) -> None:
    folder = tmp_path / uuid.uuid4().hex[:8]
    folder.mkdir()
    (folder / "metrics.csv").write_text("step,loss,note\n0,1.5,a\n1,nan,b\n2,0.5,c\n")
    dry = in_pipe(tracked.address, "import", str(folder), "--dry-run")
    assert [(row["outcome"], row["points"]) for row in rows(dry.out)] == [("found", "3")]
    (first,) = rows(in_pipe(tracked.address, "import", str(folder)).out)
    assert (first["outcome"], first["experiment_id"]) == ("imported", folder.name)
    found = rows(in_pipe(tracked.address, "history", first["run_id"], "loss").out)
    assert [(row["step"], row["value"]) for row in found] == [("0", "1.5"), ("1", "NaN"), ("2", "0.5")]
    again = on_terminal(tracked.address, "import", str(folder))
    assert again.code == 0
    assert "already there" in again.out
    whole = json.loads(in_pipe(tracked.address, "import", str(folder), "--json").out)
    assert whole["sources"][0]["outcome"] == "already there"


def test_import_shows_and_takes_what_columns_mean(tracked: Tracked, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("epoch,batch,loss\n0,10,1.5\n0,20,1.25\n")
    shown = on_terminal(tracked.address, "import", str(tmp_path), "--dry-run", width=160).out
    assert "step: batch" in shown
    other = on_terminal(tracked.address, "import", str(tmp_path), "--dry-run", "--step-column", "epoch", width=160).out
    assert "step: epoch" in other


def test_import_names_what_it_cannot_read(tracked: Tracked, tmp_path: Path) -> None:
    done = in_pipe(tracked.address, "import", str(tmp_path / "missing"))
    assert done.code == 1
    assert "missing: there is no such file or folder" in done.err
