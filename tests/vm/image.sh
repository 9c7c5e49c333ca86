#!/usr/bin/env bash
# Builds a Debian 12 that QEMU boots, in the directory that is given: disk.qcow2, vmlinuz, initrd.img, and the keys to
# log in with. What is there is kept as long as this recipe is the one that made it.
#
# The packages come from the Debian mirror that this machine's apt uses (scripts/debian-mirror.sh). There is no boot
# loader and no partition table: QEMU loads the kernel, and the file system is the whole disk, so that neither mounts
# nor loop devices are needed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?the directory for the image}
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

recipe=$(sha256sum "$here/image.sh" "$here/guest.sh" | sha256sum | cut -d' ' -f1)
mkdir -p "$out"
out=$(cd "$out" && pwd)
exec 9>"$out/lock"
flock 9
if [ "$(cat "$out/recipe" 2>/dev/null)" = "$recipe" ]; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "reboot-test: only root can build the image of the virtual machine. Run:" >&2
    echo "    sudo $here/image.sh $out && sudo chown -R \"\$USER\" $out" >&2
    exit 1
fi

mirror=$("$here/../../scripts/debian-mirror.sh")

# Below the target directory and not below /tmp, which may be small or mounted without devices.
work=$(mktemp -d "$out/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
began=$SECONDS
packages=systemd-sysv,udev,dbus,libpam-systemd,openssh-server,iproute2,procps,sysstat,linux-perf,sudo,strace,kmod
packages+=,initramfs-tools,linux-image-cloud-amd64

ssh-keygen -q -t ed25519 -N '' -C autoprof-vm -f "$work/key"
ssh-keygen -q -t ed25519 -N '' -C vm -f "$work/host_key"
echo "reboot-test: building Debian 12 for the virtual machine (about a minute)" >&2
mmdebstrap --quiet --variant=minbase --include="$packages" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
    --essential-hook="$here/guest.sh early \"\$1\" $work" --customize-hook="$here/guest.sh late \"\$1\" $work" \
    bookworm "$work/root.tar" "deb $mirror bookworm main" >&2
echo "reboot-test: packages: $((SECONDS - began)) s" >&2

began=$SECONDS
mkdir "$work/root"
tar -x --numeric-owner -f "$work/root.tar" -C "$work/root"
size=$(du -sm "$work/root" | cut -f1)
truncate -s "$((size + 600))M" "$work/disk.raw"
mkfs.ext4 -q -F -L root -d "$work/root" "$work/disk.raw"
qemu-img convert -O qcow2 "$work/disk.raw" "$work/disk.qcow2"
echo "reboot-test: disk: $((SECONDS - began)) s, $(du -m "$work/disk.qcow2" | cut -f1) MiB" >&2

rm -f "$out/recipe"
mv -f "$work"/{disk.qcow2,vmlinuz,initrd.img,key,key.pub,host_key.pub} "$out"
echo "$recipe" >"$out/recipe"
