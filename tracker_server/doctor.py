"""Checks every configured part and says what is wrong and what to do."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tracker_server.bootstrap import Parts
from tracker_server.config import Settings
from tracker_server.errors import BadMigration, BadSetting, StoreUnavailable
from tracker_server.grpc.address import is_loopback
from tracker_server.grpc.tls import server_credentials
from tracker_server.limits import MIB
from tracker_server.store.engine import sqlite_path

_SECONDS = 10.0
"""How long one check may take."""
_LEAST_FREE_BYTES = 512 * MIB


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    part: str
    fine: bool
    text: str
    remedy: str = ""
    """What to do about it."""


async def examine(settings: Settings) -> list[Finding]:
    """One finding per part. Changes nothing but the tables' and queues' absence: neither is made here."""
    parts = Parts(settings)
    checks: list[tuple[str, Callable[[Parts], Awaitable[Finding]]]] = [
        ("database", _database),
        ("broker", _broker),
        ("cache", _cache),
        ("access", _access),
    ]
    findings = []
    for name, check in checks:
        try:
            findings.append(await asyncio.wait_for(check(parts), _SECONDS))
        except TimeoutError:
            findings.append(
                Finding(
                    name, False, f"no answer within {_SECONDS:.0f} s", "is it overloaded, or is a firewall between?"
                )
            )
        except BadSetting as error:
            findings.append(Finding(name, False, str(error), "set it right"))
    return findings


async def _database(parts: Parts) -> Finding:
    settings = parts.settings
    if settings.database_is_sqlite:
        return _sqlite(settings)
    try:
        await asyncio.to_thread(parts.store.check)
    except BadMigration as error:
        return Finding("database", False, str(error), "run `tracker_server migrate`")
    except StoreUnavailable as error:
        return Finding("database", False, str(error), "start PostgreSQL, or set TRACKER_DATABASE_URL")
    finally:
        await asyncio.to_thread(parts.store.close)
    return Finding("database", True, "PostgreSQL answers; revision and partitions are right")


def _sqlite(settings: Settings) -> Finding:
    path = sqlite_path(settings.database_url)
    directory = path.parent
    while not directory.exists():
        directory = directory.parent
    free = shutil.disk_usage(directory).free
    if free < _LEAST_FREE_BYTES:
        text = f"{free // MIB} MiB free where {path} is"
        return Finding("database", False, text, "make room, or set TRACKER_DATABASE_URL to another disk")
    if not os.access(path if path.exists() else directory, os.W_OK):
        return Finding("database", False, f"{path} cannot be written", "set TRACKER_DATABASE_URL to a file that can")
    state = "is there" if path.exists() else "will be made at the first start"
    return Finding("database", True, f"SQLite: {path} {state}; {free // MIB:,} MiB free")


async def _broker(parts: Parts) -> Finding:
    if parts.settings.broker_is_memory:
        return Finding("broker", True, "in process: nothing to check")
    await parts.publisher.start()
    try:
        loop = asyncio.get_running_loop()
        end = loop.time() + _SECONDS / 2
        while not parts.publisher.accepting:
            if loop.time() > end:
                remedy = "start RabbitMQ, or set TRACKER_BROKER_URL; the log above says what it answered"
                return Finding("broker", False, "RabbitMQ is out of reach, or blocked by an alarm", remedy)
            await asyncio.sleep(0.05)
    finally:
        await parts.publisher.close()
    return Finding("broker", True, "RabbitMQ answers and takes messages; the queues are there")


async def _cache(parts: Parts) -> Finding:
    if parts.settings.cache_is_memory:
        return Finding("cache", True, "in process: nothing to check")
    try:
        await parts.cache.ping()
    except Exception as error:  # noqa: BLE001  # whatever the client raises is the finding
        remedy = "start Redis, or set TRACKER_CACHE_URL; until then every read goes to the database"
        return Finding("cache", False, f"Redis is out of reach: {error}", remedy)
    finally:
        await parts.cache.close()
    return Finding("cache", True, "Redis answers")


async def _access(parts: Parts) -> Finding:
    settings = parts.settings
    server_credentials(settings.tls_cert, settings.tls_key)
    keys = len(settings.api_key_list)
    who = f"{keys} API key{'' if keys == 1 else 's'}" if keys else "no API keys: open to all who can connect"
    text = f"{settings.listen}, {'TLS' if settings.tls_cert else 'plaintext'}, {who}"
    remedy = ""
    if not is_loopback(settings.listen):
        if not keys:
            remedy = "unless the network is closed to others, set TRACKER_API_KEYS"
        elif not settings.tls_cert:
            remedy = (
                "unless a proxy adds TLS, set TRACKER_TLS_CERT and TRACKER_TLS_KEY: keys cross the network in the clear"
            )
    return Finding("access", True, text, remedy)
