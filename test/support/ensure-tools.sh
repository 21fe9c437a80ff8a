#!/bin/sh
# Sees to what npm cannot bring: `node` (the library that the pinned Node needs), `sshd` (OpenSSH server and client),
# `host` (what boots hosts in containers), `packaging`, `packaging-arm64` (what makes and checks packages), `shells` (what
# completions and manual pages are tried with), `monitoring` (a Prometheus to try the alert rules with) and `browser`
# (Chromium to look at the status page with).
# As root on a system with apt it installs what is missing; else it says in one line what to install.
set -eu

missing=''
need() { case " $missing " in *" $1 "*) ;; *) missing="$missing $1" ;; esac; }

for wanted in "$@"; do
  case $wanted in
    node) node --version >/dev/null 2>&1 || need libatomic1 ;;
    sshd)
      for program in ssh ssh-keygen ssh-keyscan; do command -v "$program" >/dev/null 2>&1 || need openssh-client; done
      [ -x /usr/sbin/sshd ] || need openssh-server
      command -v flock >/dev/null 2>&1 || need util-linux
      ;;
    host)
      # Hosts that boot need root; without it the tests are skipped and say so.
      if [ "$(id -u)" = 0 ]; then
        [ -x /usr/sbin/debootstrap ] || need debootstrap
        command -v systemd-nspawn >/dev/null 2>&1 || need systemd-container
        command -v ip >/dev/null 2>&1 || need iproute2
        command -v rpm >/dev/null 2>&1 || need rpm
        command -v nsenter >/dev/null 2>&1 || need util-linux
        [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || need debian-archive-keyring
      fi
      ;;
    packaging)
      command -v dh >/dev/null 2>&1 || need debhelper
      command -v dpkg-buildpackage >/dev/null 2>&1 || need dpkg-dev
      command -v systemctl >/dev/null 2>&1 || need systemd
      command -v strip >/dev/null 2>&1 || need binutils
      command -v xz >/dev/null 2>&1 || need xz-utils
      command -v rpmbuild >/dev/null 2>&1 || need rpm
      for program in lintian rpmlint shellcheck busybox; do
        command -v "$program" >/dev/null 2>&1 || need "$program"
      done
      ;;
    shells)
      for program in zsh fish mandoc; do command -v "$program" >/dev/null 2>&1 || need "$program"; done
      command -v mandb >/dev/null 2>&1 || need man-db
      command -v script >/dev/null 2>&1 || need bsdutils
      ;;
    monitoring)
      # Without promtool and Prometheus the tests of the alert rules are skipped and say so.
      if [ "$(id -u)" = 0 ]; then
        for program in prometheus promtool; do command -v "$program" >/dev/null 2>&1 || need prometheus; done
      fi
      ;;
    browser) [ -x /usr/bin/chromium ] || [ -x /usr/bin/chromium-browser ] || need chromium ;;
    packaging-arm64) command -v aarch64-linux-gnu-strip >/dev/null 2>&1 || need binutils-aarch64-linux-gnu ;;
    *) echo "ensure-tools: unknown need: $wanted" >&2; exit 64 ;;
  esac
done

[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "installing:$missing" >&2
  # Nothing here may start a service: policy-rc.d is how Debian says so.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
  fi
  export DEBIAN_FRONTEND=noninteractive
  log=$(mktemp)
  # shellcheck disable=SC2086
  if ! { apt-get -qq update && apt-get -qq -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends $missing; } >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    echo "please install:$missing" >&2
    exit 69
  fi
  rm -f "$log"
else
  echo "please install first: apt install$missing" >&2
  exit 69
fi
