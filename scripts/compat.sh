#!/usr/bin/env bash
# Builds the golden plugin against the sources of a revision and makes a run with it in the autoprof of target/stage:
# what authors built then has to work now.
set -euo pipefail
cd "$(dirname "$0")/.."

revision=$(git rev-parse --verify "${1:?usage: scripts/compat.sh TAG|COMMIT}^{commit}")
golden=tests/golden/interface-1
then=target/compat/$revision
rm -rf "$then"
mkdir -p "$then"
git archive "$revision" | tar -x -C "$then"
rm -rf "${then:?}/$golden"
mkdir -p "$then/tests/golden"
cp -r "$golden" "$then/$golden"
CARGO_TARGET_DIR=target/compat/build cargo build --quiet --manifest-path "$then/$golden/Cargo.toml"
install -D -m 755 target/compat/build/debug/libautoprof_golden.so "$then/plugins/libautoprof_golden.so"

cat >"$then/job.yaml" <<'END'
hosts: [{name: golden, transport: golden, options: {answer: "42"}}]
signaler: golden
profilers: [golden: {interval: 0.2}]
END
target/stage/bin/autoprof --plugin-dir "$then/plugins" run "$then/job.yaml" --output "$then/run" --duration 3
grep -q '^time_unix,seconds$' "$then/run/hosts/golden/golden/golden.csv"
echo "a plugin that was built against $1 works in today's autoprof"
