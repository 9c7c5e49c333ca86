#!/usr/bin/env bash
# Builds the root file system of one system for `just distro-test`, in target/distro/NAME/root. A root that this
# recipe has built before is kept. Needs root, for the devices and owners in it.
#
# The packages come from the Debian mirror that this machine's apt uses (scripts/debian-mirror.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

system=${1:?usage: scripts/distro-root.sh debian-11|debian-12|debian-13|debian-sid|busybox}
case "$system" in
    debian-11) suite=bullseye ;;
    debian-12 | busybox) suite=bookworm ;;
    debian-13) suite=trixie ;;
    debian-sid) suite=sid ;;
    *) echo "distro-root: unknown system $system" >&2 && exit 2 ;;
esac

out=$PWD/target/distro/$system
recipe=$(sha256sum scripts/distro-root.sh | cut -d' ' -f1)
mkdir -p "$out"
exec 9>"$out/lock"
flock 9
if [ "$(cat "$out/recipe" 2>/dev/null)" = "$recipe" ]; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "distro-root: only root can build a root file system. Run:" >&2
    echo "    sudo scripts/distro-root.sh $system" >&2
    exit 1
fi
if ! command -v mmdebstrap >/dev/null; then
    echo "distro-root: mmdebstrap is not installed (just setup)" >&2
    exit 1
fi

mirror=$(scripts/debian-mirror.sh)
work=$(mktemp -d "$out/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
began=$SECONDS
options=(--quiet --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*'
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*'
    --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"'
    # Of an old or a moving release, what the mirror has is right.
    --aptopt='Acquire::Check-Valid-Until "false"')
if [ "$system" = busybox ]; then
    # Only unpacked: their scripts would need a system. Of libc nothing but libraries comes with dropbear.
    options+=(--variant=extract "--include=busybox-static,dropbear-bin")
else
    options+=(--variant=minbase "--include=openssh-server,procps,sysstat,linux-perf,strace,tcpdump,bpftrace,trace-cmd")
    options+=("--include=blktrace,numactl,inotify-tools,powertop,linux-cpupower,systemd,iproute2")
    # Up to Debian 12, perf is a script that looks for the program of the running kernel's version.
    [ "$suite" != bullseye ] || options+=(--include=linux-base)
fi
echo "distro-root: building $system (about a minute)" >&2
mmdebstrap "${options[@]}" "$suite" "$work/root" "deb $mirror $suite main" >&2

root=$work/root
if [ "$system" = busybox ]; then
    busybox=$(find "$root" -path '*bin/busybox' -type f | head -n 1)
    mv "$busybox" "$work/busybox"
    # Whatever came with the libraries besides them goes: the shell and every tool are busybox.
    find "$root" -type f \( -path '*bin/*' -o -path '*/sbin/*' \) ! -name 'dropbear*' -delete
    mkdir -p "$root"/{bin,sbin,usr/bin,usr/sbin,etc,root,proc,sys,dev,tmp,run,home,var/tmp,var/log}
    install -m 755 "$work/busybox" "$root/bin/busybox"
    for applet in $("$root/bin/busybox" --list-full); do
        [ -e "$root/$applet" ] || ln -s /bin/busybox "$root/$applet"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\n' >"$root/etc/passwd"
    printf 'root:x:0:\n' >"$root/etc/group"
    printf 'root:*:19000:0:99999:7:::\n' >"$root/etc/shadow"
    printf '/bin/sh\n' >"$root/etc/shells"
    # Where dropbear and libc look a user's groups up.
    printf 'passwd: files\ngroup: files\nshadow: files\n' >"$root/etc/nsswitch.conf"
else
    rm -rf "$root"/etc/ssh/ssh_host_*
    chroot "$root" useradd -m -s /bin/bash -u 1000 tester
fi
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
mkdir -p "$root/root/.ssh"
chmod 700 "$root/root" "$root/root/.ssh"

rm -rf "$out/recipe" "$out/root"
mv "$root" "$out/root"
echo "$recipe" >"$out/recipe"
echo "distro-root: $system: $((SECONDS - began)) s, $(du -sm "$out/root" | cut -f1) MiB" >&2
