"""Server reflection of the public services, and of nothing else."""

from __future__ import annotations

from typing import Final

import grpc
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from tracker.v1 import tracker_service_pb2 as public

_PUBLIC_FILES: Final[tuple[FileDescriptor, ...]] = (
    public.DESCRIPTOR,
    health_pb2.DESCRIPTOR,
    reflection_pb2.DESCRIPTOR,
)


def add_reflection(server: grpc.aio.Server) -> None:
    """Adds reflection to a server.

    From a pool of its own: the default one answers for every file in the process, the internal package's too.
    """
    pool = DescriptorPool()
    added: set[str] = set()
    for file in _PUBLIC_FILES:
        _add_file(pool, file, added)
    services = [service.full_name for file in _PUBLIC_FILES for service in file.services_by_name.values()]
    reflection.enable_server_reflection(services, server, pool)


def _add_file(pool: DescriptorPool, file: FileDescriptor, added: set[str]) -> None:
    if file.name in added:
        return
    added.add(file.name)
    for dependency in file.dependencies:
        _add_file(pool, dependency, added)
    pool.AddSerializedFile(file.serialized_pb)
