#!/bin/sh
# rpm.sh WORK OUT ARCH VERSION yes|no: the .rpm of what is staged in WORK/root, by rpmbuild; `yes`: quickly, but large.
set -eu
work=$(realpath "$1") out=$(realpath "$2") version=$4 fast=$5
case $3 in amd64) target=x86_64 ;; arm64) target=aarch64 ;; esac
level=19
[ "$fast" = no ] || level=1
units=$work/root.rpm/usr/lib/systemd/system

cp -a "$work/root" "$work/root.rpm"
install -D -m 644 -t "$units" systemd/hostcertd*.service systemd/hostcertd*.socket systemd/hostcertd*.timer
install -D -m 644 systemd/hostcertd.sysusers "$work/root.rpm/usr/lib/sysusers.d/hostcertd.conf"
install -D -m 644 systemd/hostcertd.tmpfiles "$work/root.rpm/usr/lib/tmpfiles.d/hostcertd.conf"
install -D -m 644 packaging/debian/copyright "$work/root.rpm/usr/share/licenses/hostcertd/copyright"
gzip -9n "$work/root.rpm"/usr/share/man/man*/*
find "$work/root.rpm" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
day=$(date -u -d "@$SOURCE_DATE_EPOCH" '+%a %b %d %Y')
rpmbuild -bb --target "$target-linux" --define "_topdir $work/rpm" --define "hostcertd_version $version" \
  --define "hostcertd_day $day" --define "hostcertd_root $work/root.rpm" --define "_binary_payload w$level.zstdio" \
  packaging/rpm/hostcertd.spec >"$work/rpm.log" 2>&1 || {
  cat "$work/rpm.log" >&2
  exit 1
}
cp "$work/rpm/RPMS/$target/hostcertd-$version-1.$target.rpm" "$out/"
