#!/usr/bin/env bash
# Writes the stubs in generated/ from protos/. With --check: writes them elsewhere and fails when they differ.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv-proto
stamp=$venv/.installed
if ! cmp -s protos/requirements.txt "$stamp"; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --requirement protos/requirements.txt
    cp protos/requirements.txt "$stamp"
fi

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
mapfile -t files < <(find protos -name '*.proto' | sort)
PATH="$PWD/$venv/bin:$PATH" "$venv/bin/python" -W ignore -m grpc_tools.protoc -Iprotos \
    --python_out="$out" --grpc_python_out="$out" --mypy_out=quiet:"$out" --mypy_grpc_out=quiet:"$out" "${files[@]}"
# Files without a service get an empty _grpc twin; nobody needs it.
grep -L 'class .*Stub' "$out"/tracker/*/*_pb2_grpc.py "$out"/tracker/*/*/*_pb2_grpc.py 2>/dev/null | while read -r file; do
    rm -f "$file" "${file}i"
done
find "$out/tracker" -type d -exec touch {}/__init__.py \;
touch "$out/tracker/py.typed"

if [ "${1:-}" = --check ]; then
    diff -r --exclude=__pycache__ generated/tracker "$out/tracker" || {
        echo "generated/ is stale: run 'make proto' and commit the result" >&2
        exit 1
    }
else
    rm -rf generated/tracker
    cp -r "$out/tracker" generated/tracker
fi
