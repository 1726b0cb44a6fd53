#!/bin/sh
# Makes a virtual environment in .venv: deploy/venv.sh PYTHON
set -eu
python=$1

ready() { "$python" -c 'import ensurepip, venv' 2>/dev/null; }

if ! command -v "$python" >/dev/null; then
    echo "$python is missing: install Python 3.11 or newer (Debian: apt-get install python3 python3-venv)" >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "$python is too old: Python 3.11 or newer is needed (another one: make PYTHON=python3.12 ...)" >&2
    exit 1
fi
if ! ready; then
    if [ "$(id -u)" = 0 ]; then as_root=""
    elif sudo -n true 2>/dev/null; then as_root="sudo -n"
    else as_root=no
    fi
    if [ "$as_root" != no ] && command -v apt-get >/dev/null; then
        echo "installing python3-venv ..."
        $as_root apt-get update -q >/dev/null
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends python3-venv >/dev/null
    fi
    if ! ready; then
        echo "$python cannot make virtual environments; install them first, on Debian as root: apt-get install python3-venv" >&2
        exit 1
    fi
fi
echo "making .venv ..."
# One that was cut off would look whole.
"$python" -m venv --clear .venv || { rm -rf .venv; exit 1; }
