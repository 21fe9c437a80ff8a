#!/bin/sh
# stage.sh ROOT amd64|arm64 DIST: the installed files as both packages have them, below ROOT, with what was built in DIST.
# Needs SOURCE_DATE_EPOCH.
set -eu
root=$1 arch=$2 dist=$3
lib=$root/usr/lib/hostcertd
doc=$root/usr/share/doc/hostcertd

node_package=$(sh packaging/node-package.sh "$arch")

rm -rf "$root"
# Its symbols are a fifth of its size, and only a debugger wants them.
case $arch in arm64) strip=aarch64-linux-gnu-strip ;; *) strip=x86_64-linux-gnu-strip ;; esac
install -D -m 755 "$node_package/bin/node" "$lib/bin/node"
"$strip" --strip-unneeded "$lib/bin/node"
install -m 644 "$dist"/*.js "$lib/"
install -m 755 systemd/reload-helper systemd/import-credentials "$lib/"
install -D -m 755 packaging/hostcertd.sh "$root/usr/bin/hostcertd"
# Debian's tools want the units, sysusers.d and tmpfiles.d by themselves: see debian.sh.
install -d -m 700 "$root/etc/hostcertd/credentials"

node packaging/sbom.ts "$arch" >"$lib/hostcertd.cdx.json"
install -d "$doc/examples/monitoring"
install -m 644 config.example.yaml "$doc/examples/hostcertd.yaml"
install -m 644 packaging/monitoring/* "$doc/examples/monitoring/"
install -m 644 docs/examples/* "$doc/examples/"
install -m 644 docs/*.md CHANGELOG.md "$doc/"
node packaging/notices.ts >"$doc/THIRD-PARTY-NOTICES"
install -m 644 "$node_package/LICENSE" "$doc/LICENSE.node"

install -D -m 644 -t "$root/usr/share/man/man8" packaging/man/hostcertd.8
install -D -m 644 -t "$root/usr/share/man/man5" packaging/man/hostcertd.yaml.5
install -D -m 644 packaging/completions/hostcertd.bash "$root/usr/share/bash-completion/completions/hostcertd"
install -D -m 644 -t "$root/usr/share/zsh/site-functions" packaging/completions/_hostcertd
install -D -m 644 -t "$root/usr/share/fish/vendor_completions.d" packaging/completions/hostcertd.fish

# The compile cache holds for this Node, its flags and this bundle, at this distance from each other. It comes out the same
# each time by --predictable, which is no part of what V8 compares, and by a name for the folder that is the same
# everywhere, for the bundle's path gets into it. A foreign architecture's Node cannot be run here: no cache then, which
# costs some 15 ms of processor time at each start.
# cache FLAG… -- VERB: what the verb loads; that it fails here does not matter.
cache() (
  cd "$lib" && here=/proc/self/cwd && flags=''
  while [ "$1" != -- ]; do flags="$flags $1" && shift; done
  # shellcheck disable=SC2086
  env -i NODE_COMPILE_CACHE=$here/cache NODE_COMPILE_CACHE_PORTABLE=1 HOSTCERTD_CONFIG=/nonexistent \
    bin/node --predictable --preserve-symlinks --preserve-symlinks-main $flags $here/hostcertd.js "$2" >/dev/null 2>&1 || :
)
if [ "$arch" = "$(dpkg --print-architecture)" ]; then
  cache --jitless --optimize-for-size --max-semi-space-size=1 -- version
  cache -- doctor
fi
chmod -R u=rwX,go=rX "$root"
chmod 700 "$root/etc/hostcertd/credentials"
find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
