"""Which tests run beside which, when several workers share them (pytest-xdist)."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

ONE_BY_ONE = frozenset(
    {
        "tests/e2e/test_outages.py",
        "tests/e2e/test_visibility.py",
        "tests/e2e/training/test_footprint.py",
        "tests/e2e/training/test_outages.py",
        "tests/e2e/training/test_signals.py",
        "tests/integration/test_redis_outages.py",
        "tests/integration/test_services_client_outages.py",
        "tests/unit/test_captures.py",
        "tests/unit/test_invalidation.py",
        "tests/unit/test_journal_interruptions.py",
        "tests/unit/test_system_sampler.py",
    }
)
"""Files that measure time: never two of them at once."""
_ORDER = ("tests/e2e/", "tests/integration/", "tests/contract/", "tests/importers/", "tests/unit/")
"""Long ones first: in the end no worker waits for another."""
_GROUP = ""


class FileSchedule(LoadFileScheduling):  # type: ignore[misc]  # xdist ships no types
    """The tests of a file stay together, for the fixtures that they share; those of ONE_BY_ONE all do."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return _GROUP if file in ONE_BY_ONE else file

    def _assign_work_unit(self, node: WorkerController) -> None:
        self.workqueue.move_to_end(min(self.workqueue, key=_place), last=False)
        super()._assign_work_unit(node)


def _place(scope: str) -> int:
    if scope == _GROUP:
        return -1
    return next((place for place, folder in enumerate(_ORDER) if scope.startswith(folder)), len(_ORDER))
