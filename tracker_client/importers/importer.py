"""`import_paths`: finds the runs beneath some paths and brings them in, several side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock

from tracker_client.importers.csv_mapping import CsvMapping
from tracker_client.importers.deliver import IN_FLIGHT, Cancelled, Delivered, Delivery, ImportClient, deliver
from tracker_client.importers.detect import FoundRun, find_runs, make_readers
from tracker_client.importers.identity import id_from_text
from tracker_client.importers.records import Ignored, Points, Problem, ReadError, Record, RunStart
from tracker_client.importers.report import ImportProgress, ImportReport, Outcome, SourceReport, Tally
from tracker_client.importers.requests import Experiments

_RUNS_AT_ONCE = 4


def import_paths(
    paths: Sequence[str | Path],
    *,
    client: ImportClient | None,
    experiment: str | None = None,
    formats: Sequence[str] | None = None,
    csv_mapping: CsvMapping | None = None,
    dry_run: bool = False,
    progress: Callable[[ImportProgress], None] | None = None,
) -> ImportReport:
    """Imports every run beneath these files and folders. Done again it changes nothing; interrupted, it goes on.

    client: a `TrackerClient`, or anything with these methods that retries by itself; None only for a dry run, which
    reads everything and sends nothing.
    experiment: the experiment for all runs, by name; None: the one that the source names (an MLflow experiment, a W&B
    project), else the name of the given folder.
    formats: some of `FORMATS`; None: all.
    csv_mapping: for all CSV logs, instead of guessing. See `CsvMapping`.

    What cannot be read, or is refused by the server, is a problem in the report, and the rest goes in. Raises
    ValueError for an unknown format or for no client, and what the client raises when the server is out of reach or
    does not let it in: then nothing more would go in either.
    """
    if client is None and not dry_run:
        raise ValueError("an import needs a client; only a dry run does without")
    readers = make_readers(formats, csv_mapping)
    found: list[FoundRun] = []
    problems: list[Problem] = []
    for item in find_runs(paths, readers):
        if isinstance(item, FoundRun):
            found.append(item)
        else:
            problems.append(item)
    work = _Import(experiment, len(found), progress)
    with _pool(_RUNS_AT_ONCE * IN_FLIGHT) as calls, _pool(_RUNS_AT_ONCE) as runs:
        delivery = None
        if client is not None and not dry_run:
            delivery = Delivery(client, calls, work.cancelled, work.acknowledged)
        futures = [runs.submit(work.run, one, delivery) for one in found]
        try:
            reports = [future.result() for future in futures]
        except Cancelled:
            assert work.error is not None
            raise work.error from None
        finally:
            # After an error, or Ctrl-C, no source goes on.
            work.cancelled.set()
    return ImportReport(tuple(reports), tuple(problems))


@contextmanager
def _pool(workers: int) -> Iterator[Executor]:
    pool = ThreadPoolExecutor(workers, "tracker-import")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(slots=True)
class _Import:
    """One import while it runs; its methods are called by several threads."""

    experiment: str | None
    total: int
    progress: Callable[[ImportProgress], None] | None
    cancelled: Event = field(default_factory=Event)
    error: Exception | None = None
    _lock: Lock = field(default_factory=Lock)
    _done: int = 0
    _points: int = 0

    def run(self, found: FoundRun, delivery: Delivery | None) -> SourceReport:
        """One source, from start to end."""
        if self.cancelled.is_set():
            raise Cancelled
        source = found.source
        tally = Tally(str(source.path))
        named = id_from_text(self.experiment) if self.experiment else ""
        experiments = Experiments(named, found.folder_experiment)
        try:
            if delivery is None:
                delivered = self._dry(found, experiments, tally)
            else:
                delivered = deliver(delivery, source, lambda: _read(found), experiments, tally)
        except (ReadError, OSError) as error:
            tally.tell([Problem(str(source.path), f"left out: {error}")])
            delivered = Delivered(Outcome.FAILED)
        except Exception as error:
            if not _is_about_one_run(error):
                self._fail(error)
                raise
            tally.tell([Problem(str(source.path), f"refused by the server: {error}")])
            delivered = Delivered(Outcome.FAILED)
        self._tell(str(source.path), done=1)
        return SourceReport(
            format=source.format,
            path=str(source.path),
            run_id=source.run_id,
            name=source.name,
            experiment_id=tally.experiment_id,
            outcome=delivered.outcome,
            points=tally.counts.total(),
            series=len(tally.counts),
            requests_skipped=delivered.skipped,
            ignored=dict(tally.ignored),
            columns=tally.columns,
            problems=tally.all_problems(),
        )

    def acknowledged(self, path: str, points: int) -> None:
        """So many more points are durable."""
        self._tell(path, points=points)

    def _dry(self, found: FoundRun, experiments: Experiments, tally: Tally) -> Delivered:
        for record in _read(found):
            if isinstance(record, RunStart):
                tally.experiment_id = experiments.of(record)
            self._note(record, tally)
        return Delivered(Outcome.FOUND)

    def _note(self, record: Record, tally: Tally) -> None:
        if isinstance(record, Points):
            self._tell(tally.path, points=tally.points(record))
        elif isinstance(record, Ignored):
            tally.ignore(record)
        elif isinstance(record, Problem):
            tally.tell((record,))
        elif isinstance(record, RunStart):
            tally.columns = record.columns

    def _tell(self, path: str, *, points: int = 0, done: int = 0) -> None:
        with self._lock:
            self._points += points
            self._done += done
            if self.progress is not None:
                self.progress(ImportProgress(self._done, self.total, self._points, path))

    def _fail(self, error: Exception) -> None:
        with self._lock:
            if self.error is None and not isinstance(error, Cancelled):
                self.error = error
        self.cancelled.set()


def _read(found: FoundRun) -> Iterator[Record]:
    """The records of a run. Raises ReadError and OSError, and nothing else."""
    try:
        yield from found.reader.read(found.source)
    except (ReadError, OSError):
        raise
    except Exception as error:
        raise ReadError(f"cannot be read as {found.source.format}: {error!r}") from error


def _is_about_one_run(error: Exception) -> bool:
    """Whether a client's error says that this request is wrong, rather than that no request gets through."""
    return getattr(error, "code", "") in ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "INTERNAL")
