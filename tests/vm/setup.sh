#!/usr/bin/env bash
# Installs what the virtual machines of `just reboot-test` (x86_64) and `just arm-test` (aarch64) need, on Debian and as
# root; elsewhere it prints what is missing. The system's own list of package sources is left as it is.
set -euo pipefail

arch=${1:-x86_64}
wanted=(qemu-img:qemu-utils mmdebstrap:mmdebstrap mkfs.ext4:e2fsprogs ssh:openssh-client ssh-keygen:openssh-client
    setpriv:util-linux)
case "$arch" in
    x86_64) wanted+=(qemu-system-x86_64:qemu-system-x86) && firmware=seabios ;;
    # The compiler is for the client and the relay.
    aarch64) wanted+=(qemu-system-aarch64:qemu-system-arm cpio:cpio depmod:kmod aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu) && firmware= ;;
    *) echo "vm/setup.sh: unknown architecture $arch" >&2 && exit 2 ;;
esac
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

missing=()
packages=()
for pair in "${wanted[@]}"; do
    if ! command -v "${pair%%:*}" >/dev/null; then
        missing+=("${pair%%:*}")
        packages+=("${pair#*:}")
    fi
done
if [ "${#missing[@]}" -eq 0 ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "vm: these programs are not here, and they are only installed where there is apt-get: ${missing[*]}" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "vm: programs are missing (${missing[*]}). Run:" >&2
    echo "    sudo apt-get install --no-install-recommends ${packages[*]}" >&2
    exit 1
fi

echo "vm: installing ${packages[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
install=(apt-get -q -y --no-install-recommends --no-remove)
apt-get -q update >/dev/null
if "${install[@]}" -s install "${packages[@]}" >/dev/null 2>&1; then
    "${install[@]}" install "${packages[@]}" >/dev/null
    exit 0
fi

# A part of QEMU that came from backports holds back the rest of the stable release. The backports of the mirror that
# this machine uses are then read too, from lists of our own.
# shellcheck disable=SC1091 # present on every Debian
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:?}")
own=$(mktemp -d)
trap 'rm -rf "$own"' EXIT
mkdir -p "$own/lists/partial"
# shellcheck disable=SC2016 # apt fills these in
apt-get indextargets --format 'deb $(REPO_URI) $(CODENAME) $(COMPONENT)' \
    'Created-By: Packages' 'Origin: Debian' >"$own/sources.list"
awk -v suite="$codename" '$3 == suite { $3 = suite "-backports"; print }' "$own/sources.list" >"$own/backports"
if ! [ -s "$own/backports" ]; then
    echo "vm: apt refuses ${packages[*]}, and no Debian mirror is among its sources: install them by hand" >&2
    exit 1
fi
cat "$own/backports" >>"$own/sources.list"
lists=(-o APT::Sandbox::User=root -o "Dir::Etc::SourceList=$own/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$own/lists")
apt-get -q "${lists[@]}" update >/dev/null
# Parts of one release must be together, so what is there of QEMU is named as well.
"${install[@]}" "${lists[@]}" -t "$codename-backports" install "${packages[@]}" ${firmware:+"$firmware"} qemu-utils >/dev/null
