"""Brings in the logs that people have. `import_paths` is what `tracker import` calls.

Needs the extra `import` for TensorBoard's and MLflow's files; other formats are read with the base install.
"""

from tracker_client.importers.csv_mapping import CsvMapping
from tracker_client.importers.deliver import ImportClient
from tracker_client.importers.detect import FORMATS
from tracker_client.importers.importer import import_paths
from tracker_client.importers.records import Problem
from tracker_client.importers.report import ImportProgress, ImportReport, Outcome, SourceReport

__all__ = [
    "FORMATS",
    "CsvMapping",
    "ImportClient",
    "ImportProgress",
    "ImportReport",
    "Outcome",
    "Problem",
    "SourceReport",
    "import_paths",
]
