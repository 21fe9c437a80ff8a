#!/bin/sh
# `npm run package [-- OPTION…]`: the packages, in dist/packages.
#   --arch amd64|arm64   the one of this machine by default
#   --only deb|rpm       both by default
#   --version VERSION    of the packages, for tests of upgrades; that of package.json by default
#   --fast               compress little, for tests
#   --twice              build everything again elsewhere, and fail unless it is the same to the bit
#   --out FOLDER         instead of dist/packages
set -eu
umask 022
export LC_ALL=C TZ=UTC
cd "$(dirname "$0")/.."

arch=$(dpkg --print-architecture) only='' twice=no fast=no version='' out=dist/packages
while [ $# -gt 0 ]; do
  case $1 in
    --arch) arch=${2:-}; shift ;;
    --only) only=${2:-}; shift ;;
    --version) version=${2:-}; shift ;;
    --out) out=${2:-}; shift ;;
    --twice) twice=yes ;;
    --fast) fast=yes ;;
    *) echo "package: unknown option: $1" >&2; exit 64 ;;
  esac
  shift
done
case $arch in amd64 | arm64) ;; *) echo "package: --arch is amd64 or arm64, not: $arch" >&2; exit 64 ;; esac
case $only in '' | deb | rpm) ;; *) echo "package: --only is deb or rpm, not: $only" >&2; exit 64 ;; esac

foreign=''
[ "$arch" = "$(dpkg --print-architecture)" ] || foreign=packaging-$arch
# shellcheck disable=SC2086
sh test/support/ensure-tools.sh node packaging $foreign
[ -n "$version" ] || version=$(node -p 'require("./package.json").version')
# What is built is as old as what it is built from, never as old as the build.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y package.json)}
export SOURCE_DATE_EPOCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# build FOLDER OUT: stage and build everything in FOLDER, leave the packages in OUT. Not in dist/, which others may be
# reading.
build() {
  mkdir -p "$1" "$2"
  node_modules/.bin/rolldown --config rolldown.config.ts --dir "$1/dist" >&2
  sh packaging/stage.sh "$1/root" "$arch" "$1/dist"
  [ "$only" = rpm ] || sh packaging/debian.sh "$1" "$2" "$arch" "$version" "$fast"
  [ "$only" = deb ] || sh packaging/rpm.sh "$1" "$2" "$arch" "$version" "$fast"
}

build "$work/first" "$out"
if [ "$twice" = yes ]; then
  build "$work/second/elsewhere" "$work/again"
  for file in "$work"/again/*; do
    cmp "$file" "$out/${file##*/}"
    echo "bit-identical: ${file##*/}"
  done
fi
ls -l "$out"
