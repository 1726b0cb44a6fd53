"""The gRPC front. The only place that imports grpc."""

import os

# grpc reads it when it is imported. Its event engine's listener wakes a thread of its own for every event, which costs a
# quarter of a server's calls a second (docs/benchmarks.md); without it the thread that hands calls to Python waits itself.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")
