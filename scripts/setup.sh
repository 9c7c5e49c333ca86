#!/usr/bin/env bash
# Installs the programs that the tests and lints use, through the system's package manager. As a user other than
# root it says what to run instead.
set -euo pipefail

wanted=(sshd:openssh-server ssh:openssh-client setsid:util-linux nsenter:util-linux setpriv:util-linux sudo:sudo vmstat:procps mpstat:sysstat perf:perf fish:fish tcsh:tcsh zsh:zsh ksh:ksh busybox:busybox taskset:util-linux shellcheck:shellcheck nats-server:nats-server mosquitto:mosquitto mosquitto_sub:mosquitto-clients chromium:chromium strace:strace tcpdump:tcpdump bpftrace:bpftrace trace-cmd:trace-cmd blktrace:blktrace numastat:numactl inotifywait:inotify-tools powertop:powertop faketime:faketime python3:python3 tar:tar cc:gcc mmdebstrap:mmdebstrap)
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

# What inventories are compared with: Ansible, in an environment of its own beside the build.
ansible() {
    local venv="$root/target/ansible-venv"
    if [ -x "$venv/bin/ansible-inventory" ]; then
        return
    fi
    echo "setup: installing ansible-core into target/ansible-venv" >&2
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check 'ansible-core==2.19.*'
}
root=$(cd "$(dirname "$0")/.." && pwd)

missing=()
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
for pair in "${wanted[@]}"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
done
if [ "${#missing[@]}" -eq 0 ]; then
    ansible
    exit 0
fi

# What the packages are called elsewhere than in most places.
name() {
    case "$1:$2" in
        apt-get:perf) echo linux-perf ;;
        dnf:openssh-client | zypper:openssh-client) echo openssh-clients ;;
        dnf:procps) echo procps-ng ;;
        dnf:shellcheck | zypper:shellcheck) echo ShellCheck ;;
        pacman:openssh-server | pacman:openssh-client | zypper:openssh-server) echo openssh ;;
        pacman:procps) echo procps-ng ;;
        pacman:python3 | pacman:python3-venv) echo python ;;
        dnf:python3-venv | zypper:python3-venv) echo python3 ;;
        dnf:mosquitto-clients | pacman:mosquitto-clients) echo mosquitto ;;
        *) echo "$2" ;;
    esac
}

install=()
for manager in apt-get dnf zypper pacman; do
    if command -v "$manager" >/dev/null; then
        case "$manager" in
            apt-get) install=(apt-get install -y --no-install-recommends) ;;
            pacman) install=(pacman -S --noconfirm --needed) ;;
            *) install=("$manager" install -y) ;;
        esac
        break
    fi
done
if [ "${#install[@]}" -eq 0 ]; then
    echo "setup: no package manager that is known here; install by hand: ${missing[*]}" >&2
    exit 1
fi

packages=()
for package in "${missing[@]}"; do
    packages+=("$(name "${install[0]}" "$package")")
done
if [ "$(id -u)" -ne 0 ]; then
    echo "setup: the tests need programs that are not here. Run:" >&2
    echo "    sudo ${install[*]} ${packages[*]}" >&2
    exit 1
fi
echo "setup: installing ${packages[*]}" >&2
if [ "${install[0]}" = apt-get ]; then
    apt-get update -q >/dev/null
    export DEBIAN_FRONTEND=noninteractive
fi
"${install[@]}" "${packages[@]}" >/dev/null
ansible
