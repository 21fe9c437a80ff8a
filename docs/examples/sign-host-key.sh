#!/bin/sh
# sign-host-key CA_KEY PRINCIPALS [VALIDITY]: sign one host key with ssh-keygen, for issuer.command of hostcertd.
#
# Reads one line of JSON from standard input and writes one: see other-cas.md. Runs as issuer.command itself, on a single
# host with a CA of its own, or on a signing host as the forced command of an SSH key.
#
#   CA_KEY      private key of the CA, without a passphrase; credential:NAME is $CREDENTIALS_DIRECTORY/hostcertd_NAME
#   PRINCIPALS  the names in the certificate, separated by commas. They come from here, never from the request
#   VALIDITY    as for ssh-keygen -V; default: -5m:+30d
set -eu
umask 077

ca_key=$1 principals=$2 validity=${3:--5m:+30d}
case $ca_key in credential:*) ca_key=$CREDENTIALS_DIRECTORY/hostcertd_${ca_key#credential:} ;; esac

# refuse MESSAGE: in words without quotes or backslashes
refuse() {
  printf '{"error":{"message":"%s"}}\n' "$1"
  exit 0
}

IFS= read -r request || [ -n "$request" ] || refuse 'empty request'
# TYPE BASE64, without the comment. An unescaped quote never stands inside a JSON string, so nothing else can match.
key=$(printf '%s\n' "$request" | sed -n 's/.*"public_key":"\([a-z0-9@.-]* [A-Za-z0-9+/=]*\)[" ].*/\1/p')
[ -n "$key" ] || refuse 'no public_key in the request'

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '%s\n' "$key" >"$work/key.pub"
# Later certificates have higher serials; the second part is random.
serial=$(printf '%s%08d' "$(date +%s)" "$(od -An -N3 -tu4 /dev/urandom | tr -d ' ')")
ssh-keygen -q -s "$ca_key" -h -I "${principals%%,*}" -n "$principals" -V "$validity" -z "$serial" "$work/key.pub" \
  </dev/null >&2 || refuse 'ssh-keygen did not sign: see the log'
printf '{"certificate":"%s"}\n' "$(cut -d' ' -f1,2 "$work/key-cert.pub")"
