"""The note beside a running server of which processes belong to it, and the end of what an earlier run left behind."""

import contextlib
import json
import os
import signal
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.servers.errors import ServerError
from deploy.servers.processes import Identity, identify, signal_tree, wait_until


@dataclass(frozen=True)
class Record:
    """The processes of one running server; those that had ended already when it was made are None."""

    parent: Identity | None
    keeper: Identity | None
    server: Identity | None

    @classmethod
    def of(cls, parent: int, keeper: int, server: int) -> "Record":
        """The record of processes that run now."""
        return cls(identify(parent), identify(keeper), identify(server))

    @classmethod
    def read(cls, path: Path) -> "Record | None":
        """The record in a file; None when there is none, or none that can be read."""
        try:
            fields = json.loads(path.read_text())
            return cls(**{name: Identity(**field) if field else None for name, field in fields.items()})
        except (OSError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Put the record into a file, all at once."""
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps(asdict(self)))
        draft.replace(path)

    def end_leftovers(self, directory: Path) -> None:
        """End what still runs of a server whose parent is gone; a server whose parent lives is left alone."""
        if self.keeper and self.keeper.alive() and self.parent and self.parent.alive():
            msg = f"{directory} is in use by process {self.parent.pid}; stop that first, or use another directory"
            raise ServerError(msg)
        for identity in (self.server, self.keeper):
            if identity and identity.alive():
                signal_tree(identity.pid, signal.SIGKILL)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(identity.pid, signal.SIGKILL)
                if not wait_until(lambda gone=identity: not gone.alive(), seconds=10):  # type: ignore[misc]
                    msg = f"process {identity.pid}, left from an earlier run in {directory}, cannot be ended"
                    raise ServerError(msg)
