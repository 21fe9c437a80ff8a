#!/bin/sh
# `npm run repository -- --key KEY [OPTION…]`: signed repositories of the packages, for apt and for dnf.
#   --key KEY           fingerprint or address of the signing key in the GnuPG home (GNUPGHOME) of whoever runs this
#   --packages FOLDER   instead of dist/packages
#   --out FOLDER        instead of dist/repository; packages in it are kept, so that old versions can still be installed
# A web server can serve the folder as it is. The same packages, key and SOURCE_DATE_EPOCH give the same bytes.
set -eu
umask 022
export LC_ALL=C TZ=UTC

fail() { echo "repository: $2" >&2; exit "$1"; }
packages=dist/packages out=dist/repository key=''
while [ $# -gt 0 ]; do
  case $1 in
    --packages | --out | --key) [ -n "${2:-}" ] || fail 64 "$1 requires a value" ;;
    *) fail 64 "unknown option: $1" ;;
  esac
  case $1 in
    --packages) packages=$2 ;;
    --out) out=$2 ;;
    --key) key=$2 ;;
  esac
  shift 2
done
[ -n "$key" ] || fail 64 'no signing key: pass --key FINGERPRINT'
packages=$(realpath -e "$packages") || fail 66 "$packages does not exist: run npm run package first, or pass --packages FOLDER"
cd "$(dirname "$0")/.."
sh test/support/ensure-tools.sh repository

# From here on, the fingerprint is used: an address may match several keys.
keys=$(gpg --batch --with-colons --list-secret-keys "$key" 2>/dev/null) || fail 66 "GnuPG has no secret key $key"
[ "$(echo "$keys" | grep -c '^sec:')" = 1 ] || fail 64 "--key $key matches several keys: pass the fingerprint"
fingerprint=$(echo "$keys" | awk -F: '$1 == "fpr" && !seen++ { print $10 }')
# The time of the commit is no default: apt ignores lists that are older than the ones it has.
at=''
[ -z "${SOURCE_DATE_EPOCH:-}" ] || at="--faked-system-time $(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%dT%H%M%S)!"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(date +%s)}
export SOURCE_DATE_EPOCH
# shellcheck disable=SC2086
sign() { gpg --batch --yes --quiet $at --digest-algo SHA512 --local-user "$fingerprint!" "$@"; }

pool=$out/apt/pool/main/h/hostcertd suite=$out/apt/dists/stable
mkdir -p "$pool" "$suite/main" "$out/rpm"
found=no
for file in "$packages"/hostcertd_*.deb; do
  [ -e "$file" ] || continue
  found=yes
  install -m 644 "$file" "$pool/"
done
for file in "$packages"/hostcertd-*.rpm; do
  [ -e "$file" ] || continue
  found=yes
  signed=$out/rpm/${file##*/}
  install -m 644 "$file" "$signed"
  rpmsign --define "__gpg $(command -v gpg)" --define "_gpg_name $fingerprint!" --define '_gpg_digest_algo sha512' \
    --define "_gpg_sign_cmd_extra_args --batch $at" --addsign "$signed" >/dev/null
done
[ "$found" = yes ] || fail 66 "no package of hostcertd in $packages"
find "$pool" "$out/rpm" -maxdepth 1 -type f -newermt "@$SOURCE_DATE_EPOCH" -exec touch --date="@$SOURCE_DATE_EPOCH" {} +

# apt: each list is also stored under its hash, so that a host that updates during a publication finds either the old or the new one.
for deb in "$pool"/*.deb; do [ ! -e "$deb" ] || dpkg-deb --field "$deb" Architecture; done | sort -u >"$suite/.architectures"
while read -r arch; do
  folder=$suite/main/binary-$arch
  mkdir -p "$folder/by-hash/SHA256"
  (cd "$out/apt" && apt-ftparchive --arch "$arch" packages pool) >"$folder/Packages"
  gzip -9nkf "$folder/Packages"
  xz -9kf "$folder/Packages"
  for list in "$folder/Packages" "$folder/Packages.gz" "$folder/Packages.xz"; do
    install -m 644 "$list" "$folder/by-hash/SHA256/$(sha256sum "$list" | cut -d ' ' -f 1)"
  done
done <"$suite/.architectures"
architectures=$(tr '\n' ' ' <"$suite/.architectures")
rm "$suite/.architectures"
release=$(mktemp)
trap 'rm -f "$release"' EXIT
trap 'exit 1' HUP INT TERM
apt-ftparchive -o APT::FTPArchive::Release::Origin=hostcertd -o APT::FTPArchive::Release::Label=hostcertd \
  -o APT::FTPArchive::Release::Suite=stable -o APT::FTPArchive::Release::Codename=stable \
  -o APT::FTPArchive::Release::Components=main -o "APT::FTPArchive::Release::Architectures=${architectures% }" \
  -o APT::FTPArchive::Release::Acquire-By-Hash=yes -o APT::FTPArchive::MD5=no -o APT::FTPArchive::SHA1=no \
  -o "APT::FTPArchive::Release::Patterns=Packages Packages.gz Packages.xz" \
  release "$suite" | sed "s/^Date: .*/Date: $(date -u -d "@$SOURCE_DATE_EPOCH" '+%a, %d %b %Y %H:%M:%S +0000')/" >"$release"
install -m 644 "$release" "$suite/Release"
sign --armor --output "$suite/Release.gpg" --detach-sign "$suite/Release"
sign --output "$suite/.InRelease" --clearsign "$suite/Release"
mv "$suite/.InRelease" "$suite/InRelease"

# dnf: each package is signed, and so is the list of packages.
createrepo_c --quiet --no-database --revision "$SOURCE_DATE_EPOCH" --set-timestamp-to-revision --checksum sha256 "$out/rpm"
sign --armor --output "$out/rpm/repodata/repomd.xml.asc" --detach-sign "$out/rpm/repodata/repomd.xml"

gpg --batch --yes --armor --export-options export-minimal --output "$out/hostcertd.asc" --export "$fingerprint"
chmod 644 "$out/hostcertd.asc"
echo "signed by $fingerprint: $out"
