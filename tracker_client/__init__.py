"""What training jobs use. Imports the standard library, grpc, protobuf and the stubs, and nothing else."""

from tracker_client.config import ConfigError, from_config, to_config

__all__ = ["ConfigError", "from_config", "to_config"]
