#!/bin/sh
# Fails when protos/ has changed so that callers of the last state of it would break.
#
# What it is held against, the first of:
#   1. the commit or branch in PROTOS_AGAINST (for a pull request: the branch it is to go into),
#   2. HEAD, when protos/ has changes that are not committed,
#   3. the commit before the last one that changed protos/.
# In the very first commit, a shallow clone without the commit before, or no clone at all, there is nothing to hold it
# against but itself, and it says so. BUF: the program, .venv/bin/buf by default.
set -eu
cd "$(dirname "$0")/.."
buf=${BUF:-.venv/bin/buf}

commit() { git rev-parse --verify --quiet "$1^{commit}"; }
has_protos() { git cat-file -e "$1:protos" 2>/dev/null; }

against=
if [ "$(git rev-parse --show-toplevel 2>/dev/null)" = "$(pwd -P)" ]; then
    if [ -n "${PROTOS_AGAINST:-}" ]; then
        against=$(commit "$PROTOS_AGAINST") || {
            echo "PROTOS_AGAINST is $PROTOS_AGAINST, which this clone does not have: fetch it first" >&2
            exit 1
        }
    elif commit HEAD >/dev/null; then
        if [ -n "$(git status --porcelain -- 'protos/*.proto')" ]; then
            against=HEAD
        else
            last=$(git log -1 --format=%H -- 'protos/*.proto')
            against=$(commit "${last:-HEAD}^" || true)
        fi
    fi
fi

if [ -z "$against" ] || ! has_protos "$against"; then
    echo "buf breaking: no earlier state of protos/ here, so only held against itself"
    exec "$buf" breaking --against .
fi
before=$(mktemp -d)
trap 'rm -rf "$before"' EXIT
git archive --output="$before/before.tar" "$against" -- protos buf.yaml
"$buf" breaking --against "$before/before.tar"
