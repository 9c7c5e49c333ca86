#!/usr/bin/env bash
# Packs a release build into target/dist: a tarball of the tree, which works from anywhere, a Debian package where there
# is dpkg, and the SHA-256 of each. The same build gives the same bytes, whenever and by whomever it is packed.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022

package=$(cargo pkgid -p autoprof)
version=${package##*[#@]}
name="autoprof-$version-$(uname -m)-linux"
# The time of every file: that of the commit, unless the environment has the one that distributions set.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}

rm -rf target/dist
tree=target/dist/tree
scripts/install.sh release "$tree"
install -m 644 README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE "$tree"
tar --create --directory "$tree" --transform "s,^\.,$name," --sort=name --mtime="@$SOURCE_DATE_EPOCH" \
    --owner=0 --group=0 --numeric-owner . | zstd --quiet -19 --single-thread >"target/dist/$name.tar.zst"

if command -v dpkg-shlibdeps >/dev/null; then
    command -v cargo-deb >/dev/null || cargo install --locked --quiet cargo-deb
    # What it warns of is that it builds nothing, and that the clients, which are static, depend on nothing.
    cargo deb --quiet --locked -p autoprof --no-build --no-strip --no-dbgsym --output target/dist/ \
        ${DEB_MAINTAINER:+--maintainer "$DEB_MAINTAINER"} >/dev/null
else
    echo "dist: no Debian package: no dpkg-shlibdeps here" >&2
fi

cd target/dist
for file in *.tar.zst *.deb; do
    [ -e "$file" ] || continue
    sha256sum "$file" >"$file.sha256"
    echo "target/dist/$file"
done
