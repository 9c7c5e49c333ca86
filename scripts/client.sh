#!/usr/bin/env bash
# Builds a static program for hosts of one architecture into target/clients/ARCH: autoprof-client, or autoprof-relay.
set -euo pipefail
cd "$(dirname "$0")/.."

arch=${1:?usage: scripts/client.sh ARCH [autoprof-relay]}
program=${2:-autoprof-client}
target="$arch-unknown-linux-gnu"
# Relative relocations in the short form: 45 KiB less on every host (needs glibc 2.36 or newer here, not there).
flags="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs"
limit=$((6 * 1024 * 1024))
if [ "$program" = autoprof-client ]; then
    flags+=" -C link-arg=-Wl,-T,$PWD/crates/autoprof-client/no-unwind.ld"
    limit=$((1536 * 1024))
fi
variable="CARGO_TARGET_$(echo "$target" | tr 'a-z-' 'A-Z_')"

if [ "$arch" != "$(uname -m)" ]; then
    linker="$arch-linux-gnu-gcc"
    if ! command -v "$linker" >/dev/null; then
        echo "$program: no $linker; on Debian: apt-get install gcc-${arch/_/-}-linux-gnu libc6-dev-arm64-cross" >&2
        exit 1
    fi
    if [ ! -d "$(rustc --print target-libdir --target "$target")" ]; then
        if ! command -v dpkg >/dev/null || ! RUSTC=$(scripts/debian-toolchain.sh "$arch"); then
            echo "$program: the Rust toolchain has no library for $target; run: rustup target add $target" >&2
            exit 1
        fi
        export RUSTC
    fi
    export "${variable}_LINKER=$linker" "CC_${target//-/_}=$linker"
fi
# Of Zstandard only what its quickest level takes, and that small: 160 KiB less. Without -O: cc would have its own.
fast="-Os -ffunction-sections -fdata-sections -DZSTD_STRIP_ERROR_STRINGS"
for slower in DFAST GREEDY LAZY LAZY2 BTLAZY2 BTOPT BTULTRA; do
    fast+=" -DZSTD_EXCLUDE_${slower}_BLOCK_COMPRESSOR"
done
export "CFLAGS_${target//-/_}=$fast"
# Named by target, so that build scripts and macros, which run here, are not linked statically.
export "${variable}_RUSTFLAGS=$flags"
cargo build --quiet --profile client -p "$program" --target "$target" \
    --target-dir "target/client-build/$arch"
mkdir -p "target/clients/$arch"
install -m 755 "target/client-build/$arch/$target/client/$program" "target/clients/$arch/$program"
size=$(stat -c %s "target/clients/$arch/$program")
if [ "$size" -gt "$limit" ]; then
    echo "$program: $size bytes, more than the $limit that every host is promised" >&2
    exit 1
fi
