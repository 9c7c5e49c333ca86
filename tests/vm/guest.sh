#!/usr/bin/env bash
# Configures the system in a directory for being a virtual machine; called by image.sh through mmdebstrap, `early`
# before the kernel is installed and `late` at the end.
set -euo pipefail
when=${1:?early or late}
root=${2:?the directory of the system}
work=${3:?where keys are and kernel and initrd go}

early() {
    # Only what this one machine needs: built and loaded quickly.
    mkdir -p "$root/etc/initramfs-tools/conf.d" "$root/usr/share/initramfs-tools/modules.d"
    printf 'MODULES=list\nBUSYBOX=n\nCOMPRESS=gzip\nRESUME=none\nFSTYPE=ext4\n' >"$root/etc/initramfs-tools/conf.d/vm"
    printf '%s\n' virtio_pci virtio_blk ext4 crc32c_generic >"$root/usr/share/initramfs-tools/modules.d/vm"
}

login() {
    local home=$1 owner=$2
    mkdir -p "$home/.ssh"
    cp "$work/key.pub" "$home/.ssh/authorized_keys"
    chmod 700 "$home/.ssh"
    chmod 600 "$home/.ssh/authorized_keys"
    chown -R "$owner" "$home/.ssh"
}

late() {
    echo vm >"$root/etc/hostname"
    printf '127.0.0.1 localhost vm\n' >"$root/etc/hosts"
    printf '/dev/vda / ext4 rw,noatime 0 1\n' >"$root/etc/fstab"

    rm -f "$root"/etc/ssh/ssh_host_*
    cp "$work/host_key" "$root/etc/ssh/ssh_host_ed25519_key"
    cp "$work/host_key.pub" "$root/etc/ssh/ssh_host_ed25519_key.pub"
    chmod 600 "$root/etc/ssh/ssh_host_ed25519_key"
    login "$root/root" 0:0
    chroot "$root" useradd -m -s /bin/bash -u 1000 tester
    login "$root/home/tester" 1000:1000
    printf 'tester ALL=(ALL) NOPASSWD: ALL\n' >"$root/etc/sudoers.d/tester"

    mkdir -p "$root/etc/systemd/network"
    printf '[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n' >"$root/etc/systemd/network/all.network"
    chroot "$root" systemctl -q enable systemd-networkd ssh
    # Nothing here needs these, and each costs time on an emulated processor or disturbs what is measured.
    chroot "$root" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer \
        dpkg-db-backup.timer e2scrub_reap.service sysstat.service sysstat-collect.timer sysstat-summary.timer \
        systemd-networkd-wait-online.service getty@tty1.service
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*

    cp "$root"/boot/vmlinuz-* "$work/vmlinuz"
    cp "$root"/boot/initrd.img-* "$work/initrd.img"
}

"$when"
