#!/usr/bin/env bash
# Lays out a built tree: bin/autoprof, lib/autoprof/plugins/*.so, lib/autoprof/clients/ARCH/autoprof-{client,relay},
# share/man/man1, and completions where bash, zsh and fish look for them.
set -euo pipefail
cd "$(dirname "$0")/.."

build=${1:?usage: scripts/install.sh debug|release PREFIX}
prefix=${2:?usage: scripts/install.sh debug|release PREFIX}

install -d -m 755 "$prefix/bin" "$prefix/lib/autoprof/plugins" "$prefix/lib/autoprof/clients"
install -m 755 "target/$build/autoprof" "$prefix/bin/autoprof"
for crate in plugins/*/; do
    library="libautoprof_$(basename "$crate" | tr - _).so"
    # Beside it first, then in its place: a program that has the old one loaded keeps it.
    install -m 755 "target/$build/$library" "$prefix/lib/autoprof/plugins/.$library"
    mv "$prefix/lib/autoprof/plugins/.$library" "$prefix/lib/autoprof/plugins/$library"
done
for program in target/clients/*/autoprof-*; do
    arch=$(basename "$(dirname "$program")")
    install -d -m 755 "$prefix/lib/autoprof/clients/$arch"
    install -m 755 "$program" "$prefix/lib/autoprof/clients/$arch/$(basename "$program")"
done

"$prefix/bin/autoprof" manual "$prefix/share/man/man1"
completion() {
    install -d -m 755 "$prefix/share/$(dirname "$2")"
    # By its name alone: the tree works from anywhere.
    PATH="$PWD/$prefix/bin:$prefix/bin:$PATH" COMPLETE=$1 autoprof >"$prefix/share/$2"
}
completion bash bash-completion/completions/autoprof
completion zsh zsh/site-functions/_autoprof
completion fish fish/vendor_completions.d/autoprof.fish
