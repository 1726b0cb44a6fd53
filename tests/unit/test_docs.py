"""The documentation says what the code does: settings, errors, limits, calls, commands, links."""

from __future__ import annotations

import re
from pathlib import Path

import grpc
import pytest

from tracker.v1 import tracker_service_pb2 as public
from tracker_server import errors
from tracker_server.backup import BackupFailed
from tracker_server.cli import EXIT_FAILED, EXIT_STOPPED, app, dead_app
from tracker_server.config import Settings
from tracker_server.consumer.flusher import ConsumerStopped
from tracker_server.grpc.servicer import advertised_limits
from tracker_server.grpc.status_map import CODES
from tracker_server.purge import NotDeleted

_ROOT = Path(__file__).resolve().parents[2]
_PAGES = [_ROOT / "README.md", _ROOT / "CHANGELOG.md", *sorted((_ROOT / "docs").glob("*.md"))]
_BASES = ("", "tracker_server", "tracker_server/model", "tracker_client")
_ABSOLUTE = re.compile(r"(?<![\w.:/])/(?:work|home|root|Users)/")


def _page(name: str) -> str:
    return (_ROOT / name).read_text()


def _rows(text: str, first: str) -> list[list[str]]:
    """The cells of the table whose header begins with this cell."""
    _, header, rest = text.partition(f"\n| {first} |")
    assert header, f"no table with {first!r}"
    lines = rest.split("\n")[2:]
    end = next((index for index, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:end]]


def test_settings_table() -> None:
    expected = [
        [
            f"`TRACKER_{name.upper()}`",
            "(empty)" if field.default == "" else f"`{field.default}`",
            field.description or "",
        ]
        for name, field in Settings.model_fields.items()
    ]
    assert _rows(_page("docs/operations.md"), "variable") == expected


def _client_settings() -> set[str]:
    return set(re.findall(r'"(TRACKER_[A-Z_]+)"', (_ROOT / "tracker_client" / "settings.py").read_text()))


def test_settings_table_of_the_client() -> None:
    documented = {row[0].strip("`") for row in _rows(_page("docs/client.md"), "environment")}
    assert documented == _client_settings() | {"TRACKER_API_KEY"}


def test_no_page_names_a_setting_that_is_not_there() -> None:
    known = {f"TRACKER_{name.upper()}" for name in Settings.model_fields} | _client_settings()
    for page in _PAGES:
        assert set(re.findall(r"TRACKER_[A-Z_]+[A-Z]", page.read_text())) <= known, page.name


def _known_errors() -> set[type[errors.TrackerError]]:
    known: set[type[errors.TrackerError]] = set()
    new = [errors.TrackerError]
    while new:
        error = new.pop()
        known.add(error)
        new += error.__subclasses__()
    return {error for error in known if error.__module__.startswith("tracker_server.")}


def test_every_error_reason() -> None:
    page = _page("docs/contract.md")
    to_callers = {row[0]: row[1:4] for row in _rows(page, "reason")}
    expected = {
        f"`{error.reason}`": [
            f"`{error.__name__}`",
            code.name,
            "no" if error.retry_after is None else f"after {error.retry_after:g} s",
        ]
        for error, code in CODES.items()
    }
    expected["`INTERNAL`"] = ["`TrackerError`", "INTERNAL", "no"]
    assert to_callers == expected

    _, _, rest = page.partition("never reach a caller")
    at_the_terminal = {row[0]: row[1:3] for row in _rows(rest, "reason")}
    assert at_the_terminal == {
        f"`{errors.BadSetting.reason}`": [f"`{errors.BadSetting.__name__}`", str(EXIT_FAILED)],
        f"`{NotDeleted.reason}`": [f"`{NotDeleted.__name__}`", str(EXIT_FAILED)],
        f"`{BackupFailed.reason}`": [f"`{BackupFailed.__name__}`", str(EXIT_FAILED)],
        f"`{ConsumerStopped.reason}`": [f"`{ConsumerStopped.__name__}`", str(EXIT_STOPPED)],
    }
    documented = {name.strip("`") for name in to_callers | at_the_terminal}
    assert documented == {error.reason for error in _known_errors()}


def test_no_page_names_a_reason_that_is_not_there() -> None:
    reasons = {error.reason for error in _known_errors()}
    codes = {code.name for code in grpc.StatusCode}
    # Capitals with an underscore that are neither settings nor statuses.
    others = codes | {"NOT_SERVING", "PROTOS_AGAINST", "STACK_OPTIONS", "BENCH_OPTIONS", "PYTEST_OPTIONS"}
    others |= {"NO_COLOR", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "GRPC_EXPERIMENTS", "SLURM_PROCID"}  # others' variables
    others |= {"MLFLOW_ASYNC_LOGGING_BUFFERING_SECONDS"}
    for page in _PAGES:
        named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", page.read_text()))
        named = {name for name in named if not name.startswith(("TRACKER_", "RUN_STATUS_"))}
        assert named - others <= reasons, page.name


def test_limits_table() -> None:
    rows = _rows(_page("docs/contract.md"), "field")
    advertised = advertised_limits()
    expected = [[f"`{field.name}`", f"{getattr(advertised, field.name):,}"] for field in advertised.DESCRIPTOR.fields]
    assert [row[:2] for row in rows] == expected


def test_every_call() -> None:
    page = _page("docs/contract.md")
    _, _, after = page.partition("## Calls")
    _, _, reads = after.partition("Reads answer")
    documented = [row[0] for row in _rows(after, "call") + _rows(reads, "call")]
    service = public.DESCRIPTOR.services_by_name["TrackerService"]
    assert sorted(documented) == sorted(f"`{method.name}`" for method in service.methods)


def test_commands_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", _page("Makefile"), re.MULTILINE))
    commands = {command.callback.__name__ for command in app.registered_commands if command.callback}
    commands |= {group.name for group in app.registered_groups if group.name}
    dead = {command.name for command in dead_app.registered_commands}
    for page in _PAGES:
        text = page.read_text()
        assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)) <= targets, page.name
        assert set(re.findall(r"\btracker_server ([a-z]+)\b", text)) <= commands, page.name
        assert set(re.findall(r"\btracker_server dead ([a-z]+)\b", text)) <= dead, page.name


def _anchors(path: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        assert path.is_relative_to(_ROOT), target
        if anchor:
            assert anchor in _anchors(path), target


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_files_named_exist(page: Path) -> None:
    """Code files in backquotes are there: relative to the root, or inside a package."""
    for name in re.findall(r"`([\w/]+(?:\.py|/))`", page.read_text()):
        if name.startswith("."):
            continue
        assert any((_ROOT / base / name).exists() for base in _BASES), name


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_no_path_of_one_machine(page: Path) -> None:
    assert not _ABSOLUTE.search(page.read_text())
