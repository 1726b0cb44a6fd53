"""A small process between us and a server: whatever way we end, it ends the server and all of the server's children.

It adopts whatever its server leaves behind (daemons, orphaned backends), so that the server's processes are always
just its descendants. It watches its parent through a pid file descriptor, which neither threads nor forks of the parent
disturb. It passes SIGTERM, SIGINT and SIGHUP on, and ends with its command's exit code.
"""

import argparse
import contextlib
import ctypes
import os
import pwd
import select
import signal
import subprocess
import sys
from pathlib import Path

from deploy.servers.processes import descendants, signal_tree
from deploy.servers.record import Record

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

# Where this package is imported from: the keeper's own environment and directory are its command's.
_ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from deploy.servers.keeper import main; sys.exit(main())"

_libc = ctypes.CDLL(None, use_errno=True)


def keeper_command(
    command: list[str], *, user: str | None = None, log: Path | None = None, record: Path | None = None
) -> list[str]:
    """The command that runs another one under a keeper, for as long as the calling process lives."""
    options = [f"--user={user}" if user else "", f"--log={log}" if log else "", f"--record={record}" if record else ""]
    keeper = [sys.executable, "-S", "-c", _PROGRAM, str(os.getpid()), *filter(None, options)]
    return [*keeper, "--", *command]


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _die_with_keeper() -> None:
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _start(options: argparse.Namespace) -> subprocess.Popen[bytes]:
    identity = pwd.getpwnam(options.user) if options.user else None
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(Path(options.log).open("ab")) if options.log else None
        return subprocess.Popen(
            options.command,
            user=identity.pw_uid if identity else None,
            group=identity.pw_gid if identity else None,
            extra_groups=[] if identity else None,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT if log else None,
            start_new_session=True,
            preexec_fn=_die_with_keeper,  # noqa: PLW1509 - this process has one thread
        )


def _reap_orphans(child: int) -> None:
    """Fetch whatever has ended among the adopted; the child itself is left for `Popen` to fetch."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid != child:
            os.waitpid(ended.si_pid, 0)


def _watch(parent: int, child: subprocess.Popen[bytes]) -> None:
    """Return when the parent or the child has ended."""
    poll = select.poll()
    poll.register(parent, select.POLLIN)
    poll.register(os.pidfd_open(child.pid), select.POLLIN)
    poll.poll()


def _end_all() -> None:
    """Kill every descendant and wait until none is left."""
    while True:
        signal_tree(os.getpid(), signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            if not descendants(os.getpid()):
                return


def main() -> int:
    """Run the command until it ends or the parent does."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parent", type=int)
    parser.add_argument("--user")
    parser.add_argument("--log")
    parser.add_argument("--record", type=Path)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()

    try:
        parent = os.pidfd_open(options.parent)
    except ProcessLookupError:
        return 1
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    child = _start(options)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _: child.send_signal(received))
    signal.signal(signal.SIGCHLD, lambda *_: _reap_orphans(child.pid))
    if options.record:
        Record.of(parent=options.parent, keeper=os.getpid(), server=child.pid).write(options.record)
    _watch(parent, child)
    code = child.poll()
    _end_all()
    if code is None:
        return 1
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
