"""What every adapter of the store has to do. A subclass gives the fixture `store`: migrated and empty."""

from tests.contract.store_attempts import AttemptsContract
from tests.contract.store_changes import ChangesContract
from tests.contract.store_compaction import CompactionContract
from tests.contract.store_downsampling import DownsamplingContract
from tests.contract.store_history import HistoryContract
from tests.contract.store_leases import LeasesContract
from tests.contract.store_lists import ListsContract
from tests.contract.store_points import PointsContract
from tests.contract.store_rewinds import RewindsContract
from tests.contract.store_runs import RunsContract
from tests.contract.store_writers import WritersContract


class StoreContract(
    PointsContract,
    HistoryContract,
    CompactionContract,
    DownsamplingContract,
    AttemptsContract,
    RewindsContract,
    RunsContract,
    WritersContract,
    ListsContract,
    LeasesContract,
    ChangesContract,
):
    """The battery."""
