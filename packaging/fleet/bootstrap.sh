#!/bin/sh
# bootstrap.sh --repository URL --key-fingerprint FINGERPRINT -- OPTION OF ENROLL…
#
# For a host that has nothing yet: adds the package repository, checks its key, installs hostcertd and enrolls the host.
# It can be run again; what is done already is not changed. Standard input is for the secret, which an option of
# `hostcertd enroll` such as `--client-secret-file -` reads: run this script from a file, not from a pipe.
#
#   sh bootstrap.sh --repository https://packages.example.com/hostcertd --key-fingerprint 0123…CDEF -- \
#     --url https://issuer.example.com --project ssh --register --auth aws --identity-id ID
set -eu
umask 022
export LC_ALL=C

fail() { echo "bootstrap: $2" >&2; exit "$1"; }
repository='' fingerprint=''
while [ $# -gt 0 ]; do
  case $1 in
    --repository) repository=${2:-}; shift ;;
    --key-fingerprint) fingerprint=${2:-}; shift ;;
    --) shift; break ;;
    *) fail 64 "unknown option: $1 (options of enroll go after --)" ;;
  esac
  [ $# -eq 0 ] || shift
done
[ "$(id -u)" = 0 ] || fail 77 'run this as root'
case $repository in
  https://?* | file:///?*) ;;
  *) fail 64 '--repository must be an https:// or file:/// URL' ;;
esac
# Only characters of a URL: it is written into files that have a syntax of their own.
case $repository in *[!A-Za-z0-9._~:/@%+-]*) fail 64 "--repository has a character that is not allowed: $repository" ;; esac
repository=${repository%/}
fingerprint=$(printf %s "$fingerprint" | tr -d ' ' | tr a-f A-F)
case $fingerprint in *[!0-9A-F]* | '') fail 64 '--key-fingerprint must be the whole fingerprint: 40 or 64 hexadecimal digits' ;; esac
case ${#fingerprint} in 40 | 64) ;; *) fail 64 '--key-fingerprint must be the whole fingerprint: 40 or 64 hexadecimal digits' ;; esac
[ $# -gt 0 ] || fail 64 'give the options of enroll after --'

# Standard input is for enroll: nothing before it may read the secret.
if command -v apt-get >/dev/null; then
  key=/etc/apt/keyrings/hostcertd.asc
  install_packages() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 install --yes "$@" </dev/null >&2; }
  fetch() { /usr/lib/apt/apt-helper -qq download-file "$1" "$2" </dev/null >&2; }
elif command -v dnf >/dev/null; then
  key=/etc/pki/rpm-gpg/RPM-GPG-KEY-hostcertd
  install_packages() { dnf --quiet --assumeyes install "$@" </dev/null >&2; }
  fetch() { curl --silent --show-error --fail --location --proto '=https,file' --max-time 60 --output "$2" "$1" </dev/null; }
else
  fail 69 'this host has neither apt nor dnf: install the package by hand'
fi

if ! command -v gpg >/dev/null; then
  echo 'bootstrap: installing gpg, to check the key of the repository' >&2
  if command -v apt-get >/dev/null; then
    apt-get -qq update </dev/null >&2
    install_packages --no-install-recommends gpg
  else
    install_packages gnupg2
  fi
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
fetch "$repository/hostcertd.asc" "$work/key" || fail 69 "cannot download the key $repository/hostcertd.asc"
mkdir -m 700 "$work/gnupg"
# apt and dnf would trust a second key in the file as well.
shown=$(gpg --homedir "$work/gnupg" --batch --with-colons --show-keys "$work/key" 2>/dev/null) || fail 65 "$repository/hostcertd.asc is not an OpenPGP key"
[ "$(echo "$shown" | grep -c '^pub:')" = 1 ] || fail 65 "$repository/hostcertd.asc holds more than one key"
found=$(echo "$shown" | awk -F: '$1 == "fpr" && !seen++ { print $10 }')
[ "$found" = "$fingerprint" ] || fail 65 "the key at $repository/hostcertd.asc is $found, not $fingerprint: nothing was installed"

mkdir -p "${key%/*}"
install -m 644 "$work/key" "$key"
if command -v apt-get >/dev/null; then
  printf 'Types: deb\nURIs: %s/apt\nSuites: stable\nComponents: main\nSigned-By: %s\n' "$repository" "$key" \
    >/etc/apt/sources.list.d/hostcertd.sources
  # Only this repository: others may be unreachable.
  apt-get -qq -o Dir::Etc::sourcelist=/etc/apt/sources.list.d/hostcertd.sources -o Dir::Etc::sourceparts=/dev/null \
    -o APT::Get::List-Cleanup=0 -o DPkg::Lock::Timeout=300 update --error-on=any </dev/null >&2
else
  printf '[hostcertd]\nname=hostcertd\nbaseurl=%s/rpm\ngpgcheck=1\nrepo_gpgcheck=1\ngpgkey=file://%s\n' "$repository" "$key" \
    >/etc/yum.repos.d/hostcertd.repo
fi
command -v hostcertd >/dev/null || install_packages hostcertd
rm -rf "$work"
exec hostcertd enroll --yes "$@"
