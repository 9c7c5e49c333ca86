#!/usr/bin/env bash
# Builds and runs the examples of the documentation, as their readers would: outside the workspace.
set -euo pipefail
cd "$(dirname "$0")/.."

stage=${AUTOPROF_STAGE:?run it as: just test}
# Dependencies that the workspace has built are taken from there.
export CARGO_TARGET_DIR="$PWD/target/examples"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "example: a third-party profiler plugin"
cargo build --quiet --manifest-path docs/examples/profiler-plugin/Cargo.toml
cargo test --quiet --manifest-path docs/examples/profiler-plugin/Cargo.toml
mkdir -m 755 "$work/plugins"
install -m 755 "$CARGO_TARGET_DIR"/debug/*.so "$work/plugins/"
"$stage/bin/autoprof" --plugin-dir "$work/plugins" plugin list | grep -q example
"$stage/bin/autoprof" --plugin-dir "$work/plugins" profilers free | grep -q interval
"$stage/bin/autoprof" --plugin-dir "$work/plugins" run -o "$work/run" -p free -d 2
test -s "$work/run/hosts/local/free/free.txt"

echo "example: a program that uses the library"
AUTOPROF_CLIENT_DIR="$stage/lib/autoprof/clients" \
    cargo run --quiet --manifest-path docs/examples/library/Cargo.toml -- "$work/library-run"
test -s "$work/library-run/hosts/local/proc/cpu.csv"
echo "examples: passed"
