#!/usr/bin/env bash
# Builds the static client for one architecture into target/clients/ARCH/autoprof-client.
set -euo pipefail
cd "$(dirname "$0")/.."

arch=${1:?usage: scripts/client.sh ARCH}
target="$arch-unknown-linux-gnu"
flags="-C target-feature=+crt-static"
variable="CARGO_TARGET_$(echo "$target" | tr 'a-z-' 'A-Z_')"

if [ "$arch" != "$(uname -m)" ]; then
    linker="$arch-linux-gnu-gcc"
    if ! command -v "$linker" >/dev/null; then
        echo "client: no $linker; on Debian: apt-get install gcc-${arch/_/-}-linux-gnu libc6-dev-arm64-cross" >&2
        exit 1
    fi
    if [ ! -d "$(rustc --print target-libdir --target "$target")" ]; then
        if ! command -v dpkg >/dev/null || ! RUSTC=$(scripts/debian-toolchain.sh "$arch"); then
            echo "client: the Rust toolchain has no library for $target; run: rustup target add $target" >&2
            exit 1
        fi
        export RUSTC
    fi
    export "${variable}_LINKER=$linker" "CC_${target//-/_}=$linker"
fi
# Named by target, so that build scripts and macros, which run here, are not linked statically.
export "${variable}_RUSTFLAGS=$flags"
cargo build --quiet --profile client -p autoprof-client --target "$target" \
    --target-dir "target/client-build/$arch"
mkdir -p "target/clients/$arch"
install -m 755 "target/client-build/$arch/$target/client/autoprof-client" "target/clients/$arch/autoprof-client"
size=$(stat -c %s "target/clients/$arch/autoprof-client")
limit=$((1536 * 1024))
if [ "$size" -gt "$limit" ]; then
    echo "client: $size bytes, more than the $limit that every host is promised" >&2
    exit 1
fi
