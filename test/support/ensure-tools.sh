#!/bin/sh
# ensure-tools.sh WHAT…: what npm cannot bring. `node` is for the pinned Node itself, `sshd` for tests with real ssh,
# `checks` for tests that would be skipped without, `shells` for completions and manual pages, `packaging`,
# `packaging-arm64` and `packaging-amd64` for building and checking packages, `repository` for making repositories of them, `ansible` for its role,
# `emulation` for running arm64's, `host` for booting hosts, `monitoring` for the alert rules, `browser` for the status page, `faults` for the fault suite.
# As root on a system with apt it installs what is missing, and says so before; else it says what to install.
set -eu

missing=''
reasons=''
# need PACKAGE WHY
need() {
  case " $missing " in *" $1 "*) return 0 ;; esac
  missing="$missing $1"
  reasons="$reasons  $1: $2
"
}
has() { command -v "$1" >/dev/null 2>&1; }

for wanted in "$@"; do
  case $wanted in
    node) node --version >/dev/null 2>&1 || need libatomic1 'Node, as package-lock.json pins it, is linked with it' ;;
    sshd)
      for program in ssh ssh-keygen ssh-keyscan; do has "$program" || need openssh-client 'tests run real ssh clients'; done
      [ -x /usr/sbin/sshd ] || need openssh-server 'tests run a real sshd, as a child with its own configuration'
      has flock || need util-linux 'flock: a lock between daemon and renew'
      ;;
    checks)
      # Without root, the tests that need them are skipped and say so.
      if [ "$(id -u)" = 0 ]; then
        has openssl || need openssl 'a test makes a TLS certificate that ends soon'
        has systemd-notify || need systemd 'systemd-notify: a test talks to a real socket with it'
        has python3 || need python3-minimal 'a test receives the datagrams of systemd-notify with it'
        has mkfs.ext4 || need e2fsprogs 'a test fills a file system but for what is reserved for root'
      fi
      ;;
    host)
      # Hosts that boot need root; without it the tests are skipped and say so.
      if [ "$(id -u)" = 0 ]; then
        why='tests boot Debian in containers'
        [ -x /usr/sbin/debootstrap ] || need debootstrap "$why"
        has systemd-nspawn || need systemd-container "$why"
        has ip || need iproute2 "$why"
        has nsenter || need util-linux "$why"
        [ -e /usr/share/keyrings/debian-archive-keyring.gpg ] || need debian-archive-keyring "$why"
        has rpm || need rpm 'tests install the rpm'
      fi
      ;;
    packaging)
      for pair in dh:debhelper dpkg-buildpackage:dpkg-dev systemctl:systemd strip:binutils xz:xz-utils; do
        has "${pair%:*}" || need "${pair#*:}" 'it builds the .deb'
      done
      has rpmbuild || need rpm 'it builds the .rpm'
      for program in lintian rpmlint shellcheck busybox; do
        has "$program" || need "$program" 'tests check packages and scripts with it'
      done
      has dnf || need dnf 'a test installs from the rpm repository with it'
      ;;
    repository)
      for pair in apt-ftparchive:apt-utils createrepo_c:createrepo-c gpg:gnupg rpmsign:rpm xz:xz-utils; do
        has "${pair%:*}" || need "${pair#*:}" 'it makes the repositories'
      done
      ;;
    ansible) has ansible-playbook || need ansible-core 'a test runs the role with it' ;;
    packaging-arm64) has aarch64-linux-gnu-strip || need binutils-aarch64-linux-gnu "it strips arm64's Node" ;;
    packaging-amd64) has x86_64-linux-gnu-strip || need binutils-x86-64-linux-gnu "it strips amd64's Node" ;;
    emulation)
      # Node for arm64 and what it is linked with, on another machine.
      if [ "$(uname -m)" != aarch64 ]; then
        has qemu-aarch64-static || need qemu-user-static 'a test runs the program of the arm64 package with it'
        for library in libc6 libstdc++6 libatomic1 libgcc-s1; do
          [ -e "/var/lib/dpkg/info/$library-arm64-cross.list" ] || need "$library-arm64-cross" 'the same'
        done
      fi
      ;;
    shells)
      for program in zsh fish; do has "$program" || need "$program" 'tests type completions into it'; done
      has mandoc || need mandoc 'tests check the manual pages with it'
      has mandb || need man-db 'tests check the manual pages with it'
      has script || need bsdutils 'tests type completions at a terminal with it'
      ;;
    monitoring)
      # Without promtool and Prometheus the tests of the alert rules are skipped and say so.
      if [ "$(id -u)" = 0 ]; then
        for program in prometheus promtool; do has "$program" || need prometheus 'tests try the alert rules with it'; done
      fi
      ;;
    faults)
      has gcc || need gcc 'it builds the library that makes calls fail'
      [ -e /usr/include/stdio.h ] || need libc6-dev 'the same'
      has openssl || need openssl 'a test runs a server that requires a TLS client certificate'
      has faketime || need faketime 'tests set the clock of a daemon with it'
      has strace || need strace 'a test watches which files are opened with it'
      if [ "$(id -u)" = 0 ]; then has ip || need iproute2 'a test makes a network without answers'; fi
      ;;
    browser)
      [ -x /usr/bin/chromium ] || [ -x /usr/bin/chromium-browser ] || need chromium 'tests look at the status page with it'
      ;;
    *) echo "ensure-tools: unknown: $wanted" >&2; exit 64 ;;
  esac
done

[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! has apt-get; then
  printf 'These packages are missing:\n%splease install first: apt install%s\n' "$reasons" "$missing" >&2
  exit 69
fi

printf 'These packages are missing, and are installed now with apt-get; no service is started:\n%s' "$reasons" >&2
log=$(mktemp)
policy=/usr/sbin/policy-rc.d
ours='# made by ensure-tools.sh of hostcertd, which removes it'
clean_up() {
  rm -f "$log"
  if grep -qsF "$ours" "$policy"; then rm -f "$policy"; fi
}
trap clean_up EXIT
# dash runs no EXIT trap when a signal ends it.
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
# How Debian is told not to start services; one that the administrator made is kept, and decides.
[ -e "$policy" ] || printf '#!/bin/sh\n%s\nexit 101\n' "$ours" >"$policy"
if grep -qsF "$ours" "$policy"; then chmod 755 "$policy"; fi

export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
if ! { apt-get -qq update && apt-get -qq -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends $missing; } >"$log" 2>&1; then
  cat "$log" >&2
  echo "please install first: apt install$missing" >&2
  exit 69
fi
