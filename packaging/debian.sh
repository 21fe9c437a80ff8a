#!/bin/sh
# debian.sh WORK OUT ARCH VERSION yes|no: the .deb of what is staged in WORK/root, by dpkg-buildpackage and debhelper;
# `yes`: quickly, but large.
set -eu
work=$1 out=$(realpath "$2") arch=$3 version=$4 fast=$5
tree=$work/hostcertd-$version

rm -rf "$tree"
mkdir "$tree"
cp -r packaging/debian "$tree/debian"
cp -a "$work/root" "$tree/staged"
# Here debhelper looks for them, and puts them where this distribution has them.
cp systemd/hostcertd.service "$tree/debian/hostcertd.service"
for unit in enroll ephemeral textfile; do
  cp "systemd/hostcertd-$unit.service" "$tree/debian/hostcertd.hostcertd-$unit.service"
done
cp systemd/hostcertd-textfile.timer "$tree/debian/hostcertd.hostcertd-textfile.timer"
for unit in exchange reload; do
  cp "systemd/hostcertd-$unit.socket" "$tree/debian/hostcertd.hostcertd-$unit.socket"
  cp "systemd/hostcertd-$unit@.service" "$tree/debian/hostcertd@.hostcertd-$unit.service"
done
cp systemd/hostcertd.sysusers systemd/hostcertd.tmpfiles "$tree/debian/"
mv "$tree/staged/usr/share/zsh/site-functions" "$tree/staged/usr/share/zsh/vendor-completions"
cat >"$tree/debian/changelog" <<END
hostcertd ($version) unstable; urgency=medium

  * See CHANGELOG.md.

 -- $(sed -n 's/^Maintainer: //p' "$tree/debian/control")  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
END
(cd "$tree" && HOSTCERTD_FAST=$fast dpkg-buildpackage --build=binary --host-arch "$arch" --no-sign --no-check-builddeps) >"$work/deb.log" 2>&1 || {
  cat "$work/deb.log" >&2
  exit 1
}
cp "$work/hostcertd_${version}_$arch.deb" "$out/"
