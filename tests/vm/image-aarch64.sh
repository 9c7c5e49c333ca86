#!/usr/bin/env bash
# Builds a Debian 12 for aarch64 that QEMU boots, in the directory that is given: disk.qcow2, vmlinuz, initrd.img, and
# the keys to log in with. An image that this recipe has built before is kept.
#
# No program of the other architecture runs here: packages are only unpacked, and a script takes systemd's place, so
# that neither an emulator for user programs nor a long boot is needed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?the directory for the image}
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

recipe=$(sha256sum "$here/image-aarch64.sh" | cut -d' ' -f1)
mkdir -p "$out"
out=$(cd "$out" && pwd)
exec 9>"$out/lock"
flock 9
if [ "$(cat "$out/recipe" 2>/dev/null)" = "$recipe" ]; then
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "arm-test: only root can build the image of the virtual machine. Run:" >&2
    echo "    sudo $here/image-aarch64.sh $out && sudo chown -R \"\$USER\" $out" >&2
    exit 1
fi
mirror=$("$here/../../scripts/debian-mirror.sh")

work=$(mktemp -d "$out/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
began=$SECONDS
packages=base-files,base-passwd,bash,dash,coreutils,grep,sed,gawk,findutils,util-linux,mount,tar,gzip,hostname,login
packages+=,procps,sysstat,linux-perf,openssh-server,iproute2,kmod,strace,busybox-static,linux-image-cloud-arm64
ssh-keygen -q -t ed25519 -N '' -C autoprof-vm -f "$work/key"
ssh-keygen -q -t ed25519 -N '' -C vm -f "$work/host_key"
echo "arm-test: building Debian 12 for aarch64 (about a minute)" >&2
mmdebstrap --quiet --arch=arm64 --variant=extract --include="$packages" \
    --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
    bookworm "$work/root" "deb $mirror bookworm main" >&2
root=$work/root

# What the packages' scripts would have done.
for file in passwd group; do
    cp "$root/usr/share/base-passwd/$file.master" "$root/etc/$file"
done
sed -i 's#^root:[^:]*:0:0:root:/root:.*#root:x:0:0:root:/root:/bin/bash#' "$root/etc/passwd"
printf 'sshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n' >>"$root/etc/passwd"
printf 'root:*:19000:0:99999:7:::\nsshd:*:19000:0:99999:7:::\n' >"$root/etc/shadow"
printf 'passwd: files\ngroup: files\nshadow: files\nhosts: files\n' >"$root/etc/nsswitch.conf"
printf '127.0.0.1 localhost vm\n' >"$root/etc/hosts"
printf '/dev/vda / ext4 rw,noatime 0 1\n' >"$root/etc/fstab"
[ -e "$root/bin/sh" ] || ln -s dash "$root/bin/sh"
[ -e "$root/usr/bin/awk" ] || ln -s gawk "$root/usr/bin/awk"
cp "$root/usr/share/openssh/sshd_config" "$root/etc/ssh/sshd_config"
# The first value counts. PAM's configuration is written by a package's script.
sed -i '1i UsePAM no' "$root/etc/ssh/sshd_config"
install -m 600 "$work/host_key" "$root/etc/ssh/ssh_host_ed25519_key"
install -D -m 600 "$work/key.pub" "$root/root/.ssh/authorized_keys"
chmod 700 "$root/root" "$root/root/.ssh"
mkdir -p "$root"/{proc,sys,dev,run,tmp,var/tmp,mnt}
chmod 1777 "$root/tmp" "$root/var/tmp"
cat >"$root/sbin/autoprof-init" <<'INIT'
#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tracefs tracefs /sys/kernel/tracing
mount -t debugfs debugfs /sys/kernel/debug
hostname vm
ip link set lo up
ip link set eth0 up
ip address add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
mkdir -p /run/sshd
/usr/sbin/sshd
# Orphans are this process's to reap.
while :; do sleep 1000000 & wait; done
INIT
chmod 755 "$root/sbin/autoprof-init"

# An initial file system with what the kernel needs to find its disk and network, in the order of their needs.
version=$(basename "$root"/lib/modules/*)
depmod -b "$root" "$version"
initrd=$work/initrd
mkdir -p "$initrd"/{bin,dev,proc,sys,root,modules}
busybox=$(find "$root" -path '*bin/busybox' -type f | head -n 1)
cp "$busybox" "$initrd/bin/busybox"
ln -s busybox "$initrd/bin/sh"
for module in virtio_pci virtio_blk virtio_net virtio_rng; do
    modprobe -d "$root" -S "$version" --show-depends "$module" | awk '$1 == "insmod" { print $2 }'
done | awk '!seen[$0]++' >"$work/modules"
while read -r module; do
    cp "$module" "$initrd/modules/"
    echo "/bin/busybox insmod /modules/$(basename "$module")" >>"$work/load"
done <"$work/modules"
{
    printf '#!/bin/sh\n/bin/busybox mount -t devtmpfs devtmpfs /dev\n'
    cat "$work/load"
    printf 'until [ -b /dev/vda ]; do /bin/busybox sleep 0.1; done\n'
    printf '/bin/busybox mount -t ext4 /dev/vda /root && /bin/busybox mount --move /dev /root/dev\n'
    printf 'exec /bin/busybox switch_root /root /sbin/autoprof-init\n'
} >"$initrd/init"
chmod 755 "$initrd/init"
(cd "$initrd" && find . | cpio --quiet -o -H newc | gzip -1) >"$work/initrd.img"
cp "$root"/boot/vmlinuz-* "$work/vmlinuz"
echo "arm-test: packages: $((SECONDS - began)) s" >&2

began=$SECONDS
rm -rf "${root:?}"/boot/* "$root"/usr/share/{doc,man,locale} "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
size=$(du -sm "$root" | cut -f1)
truncate -s "$((size + 600))M" "$work/disk.raw"
mkfs.ext4 -q -F -L root -d "$root" "$work/disk.raw"
qemu-img convert -O qcow2 "$work/disk.raw" "$work/disk.qcow2"
echo "arm-test: disk: $((SECONDS - began)) s, $(du -m "$work/disk.qcow2" | cut -f1) MiB" >&2

rm -f "$out/recipe"
mv -f "$work"/{disk.qcow2,vmlinuz,initrd.img,key,key.pub,host_key.pub} "$out"
echo "$recipe" >"$out/recipe"
