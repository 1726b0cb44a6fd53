"""Several servers and several consumers side by side."""

import pytest
import sqlalchemy

from deploy.servers.processes import wait_until
from tests.e2e.deployment import Deployment
from tests.e2e.load import Load
from tests.e2e.recount import recount

SHARE_SECONDS = 20.0
_HELD = sqlalchemy.text(
    "SELECT a.application_name, count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
    "WHERE l.locktype = 'advisory' AND l.granted AND l.classid = :kind AND l.objsubid = 2 "
    "AND a.datname = current_database() GROUP BY 1"
)
_KIND = 0x7472_6B32


@pytest.mark.timeout(180)
def test_consumers_come_and_go_and_share_the_partitions_and_nothing_is_lost_or_doubled(full: Deployment) -> None:
    """Two servers under load. A second and a third consumer come: within seconds each holds its fair share of the eight
    partitions, as PostgreSQL's locks show. One is ended, one is killed: the rest take over. All along writes go to both
    servers, the same write now to the one, now to the other. Every point is there once."""
    full.start(servers=2, consumers=1)
    engine = sqlalchemy.create_engine(full.settings["database_url"], isolation_level="AUTOCOMMIT")

    def shares() -> list[int]:
        with engine.connect() as connection:
            return sorted(row[1] for row in connection.execute(_HELD, {"kind": _KIND}))

    def wait_shares(*wanted: int) -> None:
        assert wait_until(lambda: shares() == list(wanted), SHARE_SECONDS, interval=0.1), (shares(), wanted)

    with Load(full.addresses, callers=4, runs=12, rows=10, pause=0.01) as load:
        load.wait_acknowledged(50)
        wait_shares(8)
        second = full.add("consume").start()
        wait_shares(4, 4)
        load.wait_acknowledged(50)
        third = full.add("consume").start()
        wait_shares(2, 3, 3)
        load.wait_acknowledged(50)
        second.terminate()
        assert second.wait() == 0
        wait_shares(4, 4)
        load.wait_acknowledged(50)
        third.kill()
        wait_shares(8)
        load.wait_acknowledged(50)
        second.start()
        third.start()
        full.consumer.terminate()
        wait_shares(4, 4)
        load.finish()
    assert not load.failures
    engine.dispose()
    assert recount(full.stub(0), load) == recount(full.stub(1), load)
