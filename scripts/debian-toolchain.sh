#!/usr/bin/env bash
# Unpacks Debian's newest Rust with the standard library of another architecture into target/toolchain, for machines
# whose own toolchain cannot get that library (no rustup, or no way to its server). Nothing is installed. Prints the
# path of a rustc that can compile for the architecture.
set -euo pipefail
cd "$(dirname "$0")/.."

arch=${1:?usage: scripts/debian-toolchain.sh ARCH}
case "$arch" in
    aarch64) debian=arm64 ;;
    *) echo "toolchain: Debian's name of $arch is not known here" >&2 && exit 1 ;;
esac
native=$(dpkg --print-architecture)
here="$PWD/target/toolchain"
rustc="$here/rustc"
if [ -x "$rustc" ] && [ -d "$here/root/usr/lib/rustlib/$arch-unknown-linux-gnu" ]; then
    echo "$rustc"
    exit 0
fi

mkdir -p "$here/lists/partial" "$here/cache/archives/partial" "$here/packages" "$here/root"
# Lists of our own, for both architectures: those of the machine stay as they are.
cat > "$here/apt.conf" <<CONF
Dir::State::lists "$here/lists";
Dir::Cache "$here/cache";
APT::Architectures "$native,$debian";
APT::Sandbox::User "root";
CONF
export APT_CONFIG="$here/apt.conf"
apt-get update -q >&2
cd "$here/packages"
depends() { apt-cache depends --important "$1" | awk '/Depends:/ { print $2 }'; }
libstd=$(depends "libstd-rust-web-dev:$native" | grep '^libstd-rust-web-' | head -n 1)
llvm=$(depends "$libstd" | grep '^libllvm' | head -n 1)
apt-get download -q rustc-web "libstd-rust-web-dev:$native" "libstd-rust-web-dev:$debian" "$libstd" "$llvm" >&2
for package in *.deb; do
    dpkg -x "$package" "$here/root"
done
libraries=$(find "$here/root/usr/lib" \( -name 'librustc_driver*.so' -o -name 'libLLVM*.so*' \) -printf '%h\n' | sort -u | paste -sd:)
cat > "$rustc" <<WRAPPER
#!/bin/sh
LD_LIBRARY_PATH=$libraries exec $here/root/usr/bin/rustc --sysroot $here/root/usr "\$@"
WRAPPER
chmod 755 "$rustc"
echo "$rustc"
