#!/usr/bin/env bash
# Prints the Debian mirror to build systems from: AUTOPROF_DEBIAN_MIRROR, or the one that this machine's apt uses.
set -euo pipefail

mirror=${AUTOPROF_DEBIAN_MIRROR:-}
if [ -z "$mirror" ] && command -v apt-get >/dev/null; then
    # `Label` tells the archive from that of security updates.
    # shellcheck disable=SC2016 # apt fills this in
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' \
        'Component: main' | head -n 1)
fi
if [ -z "$mirror" ]; then
    echo "cannot find a Debian mirror in apt's sources; name one with AUTOPROF_DEBIAN_MIRROR=URL" >&2
    exit 1
fi
echo "${mirror%/}"
