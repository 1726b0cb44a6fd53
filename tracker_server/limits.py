"""Every numeric limit, with its unit and its reason. Those that clients must know are advertised by GetServerInfo."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# Requests.
MAX_REQUEST_BYTES: Final = 2 * MIB
"""Largest request taken. Clients cut batches at 1 MiB; the rest is room for a long config."""
MAX_TRANSPORT_BYTES: Final = 4 * MAX_REQUEST_BYTES
"""What grpc itself takes: above the advertised limit, so that ours answers with a typed error and not grpc's bare one."""
MAX_POINTS_PER_REQUEST: Final = 250_000
"""Points in one request: 2 MiB of doubles hold no more."""
MAX_ID_LENGTH: Final = 128
"""Characters of a run, experiment or writer id."""
MIN_WRITER_ID_LENGTH: Final = 16
"""Characters. A shorter one is likely a fixed name, whose restarted count would lose data."""
MAX_NAME_LENGTH: Final = 256
"""Characters of a metric, tag, metadata, artifact or config name, and of a display name."""
MIN_STEP: Final = -(2**63)
MAX_STEP: Final = 2**63 - 1
"""Largest step, a 64-bit integer."""
MAX_TEXT_LENGTH: Final = 65_536
"""Characters of notes, a metadata value or a URI."""
MAX_CONFIG_BYTES: Final = 256 * KIB
"""Encoded config."""
MAX_CONFIG_DEPTH: Final = 32
"""Nesting of a config; protobuf itself gives up at 100 messages, and each level takes three."""
MAX_ENTRIES: Final = 1_000
"""Tags, metadata entries, artifacts or final metrics in one request."""
MAX_WRITE_TOKENS: Final = 100
"""Write tokens in one read."""
MIN_TIME_MS: Final = -62_135_596_800_000
"""0001-01-01T00:00:00Z, the first moment of google.protobuf.Timestamp."""
MAX_TIME_MS: Final = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z, the last millisecond of google.protobuf.Timestamp."""

# Answers.
DEFAULT_PAGE_SIZE: Final = 100
"""Runs or experiments a page."""
MAX_PAGE_SIZE: Final = 1_000
"""Runs or experiments a page."""
DEFAULT_METRIC_PAGE_SIZE: Final = 1_000
"""Metrics a page of GetRun and GetSummary."""
MAX_METRIC_PAGE_SIZE: Final = 10_000
"""Metrics a page of GetRun and GetSummary."""
MAX_PAGE_BYTES: Final = 3 * MIB
"""A page ends early when it has so many bytes: gRPC clients take 4 MiB by default."""
MAX_HISTORY_PAGE_POINTS: Final = 100_000
"""Points a page: 24 bytes each, under the 3 MiB that every gRPC client takes by default (4 MiB)."""
MAX_HISTORY_SELECTION: Final = 100
"""Runs, and metrics, in one GetMetricHistory."""
MIN_DOWNSAMPLED_POINTS: Final = 4
"""First, last, smallest, largest."""
MAX_DOWNSAMPLED_POINTS: Final = 10_000
"""Points a series when downsampling."""
NEWEST_RUNS: Final = 10
"""Runs listed in a summary."""
MAX_LISTED_RANGES: Final = 100
"""Missing or refused ranges listed per writer."""
MAX_LISTED_WRITERS: Final = 1_000
"""Writers listed by GetRun."""

# Cache.
SUMMARY_TTL_SECONDS: Final = 300
"""GetSummary and the first page of ListExperiments."""
STATS_TTL_SECONDS: Final = 60
"""GetDashboardStats."""

# Runs.
LEASE_SECONDS: Final = 120
"""How long a run counts as alive after a sign of life, unless a setting says otherwise."""
RESTORE_SECONDS: Final = 7 * 86_400
"""How long a deleted run or experiment can be restored."""
MAX_FILTER_LENGTH: Final = 10_000
"""Longest filter and order_by, in characters."""
HEARTBEAT_SECONDS: Final = 30
"""How often clients should send one: three may be lost within a lease."""
MAX_PARTITIONS: Final = 256
"""Queues that runs can be spread over."""
SEEN_GRANULARITY_MS: Final = 10_000
"""Signs of life are rounded down to this, so that a run's row changes at most so often."""
LEASE_MARKER_MS: Final = 10_000
"""Time between two lease markers of a server in each partition."""
MAX_JUDGED_ATTEMPTS: Final = 1_000
"""Attempts that one flush marks as lost; the others are left to the next marker."""

# Watching.
WATCH_PAUSE_SECONDS: Final = 0.25
"""Between two reads for one watcher: so often it is told of changes at most."""
WATCH_LOOK_SECONDS: Final = 5.0
"""How often a server looks for changes by itself: notices may be lost."""
WATCH_ALIVE_SECONDS: Final = 30.0
"""After so long without a message a watcher is told that the stream is alive."""
WATCH_READS: Final = 2
"""Reads for watchers at the same time: they share what there is, and leave the connections to those who ask."""
MAX_WATCH_BYTES: Final = 512 * KIB
"""A message to a watcher ends with the run that makes it so large: each watcher may have one on its way."""
DEFAULT_WATCHED_METRICS: Final = 100
"""Metrics given with a run, unless more are asked for."""
MAX_WATCHED_METRICS: Final = 1_000
"""Metrics given with a run, at most."""

# Events for other services.
MAX_EVENT_METRICS: Final = 100
"""Metrics of whose last values an event tells; final metrics are told beside them."""
MAX_EVENT_BYTES: Final = 1 * MIB
"""A larger event is told without metrics, artifacts and metadata."""

# Between server and broker.
MAX_COALESCED_BYTES: Final = 1 * MIB
"""One AMQP message holds at most so much, or one request."""
MAX_OUTSTANDING_WRITES: Final = 10_000
"""Unconfirmed writes a server holds."""
MAX_OUTSTANDING_BYTES: Final = 64 * MIB
"""Unconfirmed bytes a server holds; pika itself buffers without limit."""
CONFIRM_TIMEOUT_SECONDS: Final = 10.0
"""A confirm that takes longer is taken for lost; the caller is told UNAVAILABLE."""

# At the consumer.
PREFETCH_BYTES: Final = 64 * MIB
"""Unacknowledged messages a consumer holds, together. Windows are sized to that by how large messages have been lately; if
they suddenly become larger, nothing more is read from the broker until some are acknowledged."""
MAX_PREFETCH: Final = 256
"""Unacknowledged messages of one partition. More would not make flushes larger, and all are delivered again after a death."""
SUSPECT_DELIVERY_COUNT: Final = 3
"""From so many earlier deliveries on, a message is handled alone: it may be what kills consumers."""
MAX_TRIES_ALONE: Final = 10
"""A message that so many consumers died on, alone, is dead-lettered unseen."""
BROKER_DELIVERY_LIMIT: Final = 10_000
"""x-delivery-limit: very high, since every death of a consumer counts against all that it had prefetched."""

# In the database.
MAX_CHUNK_POINTS: Final = 4_096
"""Points in one chunk, so that a page never decodes much more than it returns."""
