"""Points of runs as files: CSV, JSON Lines, Parquet. Written as they are read, so memory does not grow with the run.

Every format has the same columns: run_id, metric, step, time_unix_ms (since 1970-01-01 UTC), value.
"""

from tracker_client.exporters.export import ExportReport, NothingToExport, Progress, export_runs, select_metrics
from tracker_client.exporters.formats import FORMATS, MissingLibrary, open_writer
from tracker_client.exporters.targets import open_target

__all__ = [
    "FORMATS",
    "ExportReport",
    "MissingLibrary",
    "NothingToExport",
    "Progress",
    "export_runs",
    "open_target",
    "open_writer",
    "select_metrics",
]
