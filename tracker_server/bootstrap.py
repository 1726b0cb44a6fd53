"""The one place that picks adapters: what the settings' URLs mean."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import cached_property

from tracker_server import limits
from tracker_server.broker.announcements import RabbitAnnouncements
from tracker_server.broker.change_feed import RabbitChangeFeed
from tracker_server.broker.memory import MemoryBroker
from tracker_server.broker.publisher import RabbitPublisher
from tracker_server.broker.subscriber import RabbitSubscriber
from tracker_server.cache.memory import MemoryCache
from tracker_server.cache.redis import RedisCache
from tracker_server.config import Settings
from tracker_server.consumer.batch import BatchLimits
from tracker_server.ingest import IngestLimits
from tracker_server.invalidation import INTERVAL_SECONDS
from tracker_server.notices import MemoryChanges
from tracker_server.ports import Assignment, Cache, ChangeFeed, ChangeNotices, Events, Publisher, Subscriber
from tracker_server.store.assignment import PostgresAssignment, WholeAssignment
from tracker_server.store.store import Store, open_store


@dataclass(frozen=True)
class Parts:
    """The adapters of one process, each made when first asked for. To be used within one event loop."""

    settings: Settings

    @cached_property
    def process_name(self) -> str:
        """Names this process at the database, where a consumer that hangs is told from one that lives."""
        return f"tracker-{uuid.uuid4()}"

    @cached_property
    def store(self) -> Store:
        """The database. SQLite is locked for this process and migrated. Raises BadSetting."""
        return open_store(self.settings, self.process_name)

    @cached_property
    def publisher(self) -> Publisher:
        """The server's side of the broker."""
        return self._memory_broker if self.settings.broker_is_memory else RabbitPublisher(self.settings)

    @cached_property
    def subscriber(self) -> Subscriber:
        """The consumer's side of the broker."""
        return self._memory_broker if self.settings.broker_is_memory else RabbitSubscriber(self.settings)

    @cached_property
    def change_feed(self) -> ChangeFeed:
        """How a server is told that runs have changed."""
        return self._memory_changes if self.settings.broker_is_memory else RabbitChangeFeed(self.settings)

    @cached_property
    def change_notices(self) -> ChangeNotices:
        """How a consumer tells servers that runs have changed."""
        return self._memory_changes if self.settings.broker_is_memory else self._announcements

    @cached_property
    def events(self) -> Events | None:
        """How a consumer tells other services what has happened. None: there is nowhere to tell it."""
        return None if self.settings.broker_is_memory else self._announcements

    @cached_property
    def cache(self) -> Cache:
        """The cache."""
        return MemoryCache() if self.settings.cache_is_memory else RedisCache(self.settings.cache_url)

    @cached_property
    def assignment(self) -> Assignment:
        """Shares the partitions out. With SQLite, or a broker in this process, there is only one consumer."""
        settings = self.settings
        if settings.broker_is_memory or settings.database_is_sqlite:
            return WholeAssignment(settings.partitions)
        return PostgresAssignment(
            settings.database_url,
            settings.partitions,
            process_name=self.process_name,
            interval_seconds=settings.assignment_seconds,
            timeout_seconds=settings.transaction_timeout_seconds,
        )

    @property
    def batch_limits(self) -> BatchLimits:
        """When a consumer flushes. In one process the callers wait for the flush, so it never waits for more."""
        settings = self.settings
        seconds = 0.0 if settings.broker_is_memory else settings.flush_seconds
        return BatchLimits(settings.flush_points, settings.flush_bytes, seconds)

    @property
    def ingest_limits(self) -> IngestLimits:
        """How much a server takes on. In one process messages cost nothing: each goes at once, and the consumer gathers."""
        if self.settings.broker_is_memory:
            return IngestLimits(publishes_in_flight=limits.MAX_OUTSTANDING_WRITES, longest_pause_seconds=0.0)
        return IngestLimits()

    @property
    def bump_interval_seconds(self) -> float:
        """Between two bumps of a cached scope. In one process they cost nothing."""
        return 0.0 if self.settings.cache_is_memory else INTERVAL_SECONDS

    @cached_property
    def _announcements(self) -> RabbitAnnouncements:
        return RabbitAnnouncements(self.settings)

    @cached_property
    def _memory_changes(self) -> MemoryChanges:
        return MemoryChanges()

    @cached_property
    def _memory_broker(self) -> MemoryBroker:
        return MemoryBroker()
