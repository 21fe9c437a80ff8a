import type { ConfinedUnit } from './sandbox.ts'

/** Lines of shell by name. */
export type Probes = Readonly<Record<string, string>>

function writing(...paths: readonly string[]): Probes {
  return Object.fromEntries(paths.map((path) => [`write ${path}`, `echo probe >${path} && rm ${path}`]))
}

function reading(...paths: readonly string[]): Probes {
  return Object.fromEntries(paths.map((path) => [`read ${path}`, `test -s ${path} && cat ${path}`]))
}

/** @param families by the numbers that Linux has for them */
function sockets(families: Readonly<Record<string, number>>): Probes {
  const tries = Object.entries(families).map(([name, family]) => {
    const type = name === 'AF_PACKET' || name === 'AF_NETLINK' ? 3 : 1
    return [`open a socket of ${name}`, `perl -e "socket(S, ${family}, ${type}, 0) or exit 1"`] as const
  })
  return Object.fromEntries(tries)
}

/** What root can do on a host in a container, and no unit may. */
const NEVER: Probes = {
  ...writing(
    '/etc/probe',
    '/etc/systemd/system/probe.service',
    '/run/probe',
    '/run/lock/probe',
    '/run/systemd/system/probe.service',
    '/usr/lib/hostcertd/probe',
    '/var/lib/probe',
    '/var/log/probe',
    '/home/probe',
    '/root/probe',
    '/srv/probe',
    '/boot/probe',
    '/dev/shm/probe',
  ),
  ...sockets({ AF_PACKET: 17 }),
  'gain privileges by a program': 'grep -q "^NoNewPrivs:.0" /proc/self/status',
  'make a user namespace': 'unshare --user true',
  'make a mount namespace': 'unshare --mount true',
  'make a network namespace': 'unshare --net true',
  'mount a file system': 'mount -t tmpfs tmpfs /mnt && umount /mnt',
  'make a device': 'mknod /tmp/probe c 1 3; test -c /tmp/probe && rm /tmp/probe',
  'make a program setuid': 'echo >/tmp/probe; chmod u+s /tmp/probe; s=$?; rm /tmp/probe; exit $s',
  'be somebody else': 'setpriv --reuid=1 --clear-groups true',
  'change the hostname': 'hostname "$(hostname)"',
  'change the control groups': 'mkdir /sys/fs/cgroup/probe && rmdir /sys/fs/cgroup/probe',
  'run in real time': 'chrt --fifo 1 true',
  'change the personality': 'setarch --addr-no-randomize true',
  'see other programs in /tmp': 'ls /tmp/of-root',
}

/** What only the unit that enrolls may. */
const ENROLLING: Probes = {
  ...writing('/etc/hostcertd/probe'),
  'give a file away': 'echo >/tmp/probe; chown 1 /tmp/probe; s=$?; rm /tmp/probe; exit $s',
}

/** No other unit has any capabilities. */
const NONE: Probes = {
  ...NEVER,
  ...ENROLLING,
  'have capabilities': 'grep -q "^CapEff:.*[1-9a-f]" /proc/self/status',
  'regain capabilities': 'grep -q "^CapBnd:.*[1-9a-f]" /proc/self/status',
}

// mmap(NULL, 4096, PROT_READ|PROT_WRITE|PROT_EXEC, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0), by its number on amd64
const WRITE_AND_EXECUTE: Probes = {
  'have memory to write and execute': 'perl -e "exit(syscall(9, 0, 4096, 7, 34, -1, 0) == -1)"',
}

/** Shell: whether a stream socket takes a connection. */
function askSocket(path: string): string {
  return `perl -MSocket -e "socket(S, AF_UNIX, SOCK_STREAM, 0); connect(S, sockaddr_un('${path}')) or exit 1"`
}

/** Of the user hostcertd-exchange, and in its sandbox. */
const NONE_OF_EXCHANGE: Probes = {
  ...NONE,
  ...writing(
    '/etc/ssh/probe',
    '/etc/ssh/hostcertd/probe-cert.pub',
    '/run/hostcertd/probe',
    '/var/lib/hostcertd/probe',
    '/var/lib/hostcertd/certs/probe',
  ),
  ...reading(
    '/etc/ssh/ssh_host_ed25519_key',
    '/etc/shadow',
    '/etc/hostcertd/credentials/client-secret',
    '/var/lib/hostcertd/attempts.json',
  ),
  'see the processes of others': 'test -d /proc/1',
  'ask the root helper': askSocket('/run/hostcertd-reload.sock'),
  'ask another exchange': askSocket('/run/hostcertd-exchange.sock'),
}

/** What the user hostcertd must not be able to do. */
const NONE_OF_HOSTCERTD: Probes = {
  ...NONE,
  ...writing(
    '/etc/ssh/probe',
    '/etc/ssh/sshd_config.d/99-probe.conf',
    '/etc/ssh/hostcertd/probe-cert.pub',
    '/run/sshd/probe',
    '/run/hostcertd-reload/probe',
  ),
  ...reading(
    '/etc/ssh/ssh_host_ed25519_key',
    '/etc/ssh/ssh_host_rsa_key',
    '/etc/ssh/ssh_host_ecdsa_key',
    '/etc/shadow',
    '/etc/hostcertd/credentials/client-secret',
    '/root/.ssh/authorized_keys',
  ),
  'see the processes of others': 'test -d /proc/1',
  ...WRITE_AND_EXECUTE,
}

/** What a unit must not be able to do. */
export const FORBIDDEN: Readonly<Record<ConfinedUnit, Probes>> = {
  'hostcertd.service': NONE_OF_HOSTCERTD,
  'hostcertd-exchange@probe.service': NONE_OF_EXCHANGE,
  'hostcertd-reload@probe.service': {
    ...NONE,
    ...writing('/var/lib/hostcertd/certs/probe', '/run/hostcertd/probe'),
    ...sockets({ AF_INET: 2, AF_INET6: 10, AF_NETLINK: 16 }),
    'see the network': 'grep -q host0: /proc/self/net/dev',
    ...WRITE_AND_EXECUTE,
  },
  'hostcertd-ca.service': {
    ...NEVER,
    ...writing('/var/lib/hostcertd/probe', '/run/hostcertd/probe', '/etc/hostcertd/probe'),
    ...reading('/etc/hostcertd/credentials/client-secret', '/var/lib/hostcertd/attempts.json'),
    ...sockets({ AF_INET: 2, AF_INET6: 10, AF_NETLINK: 16 }),
    'see the network': 'grep -q host0: /proc/self/net/dev',
    ...WRITE_AND_EXECUTE,
  },
  'hostcertd-enroll.service': {
    ...NEVER,
    ...writing('/run/hostcertd/probe'),
    ...WRITE_AND_EXECUTE,
  },
  'hostcertd-ephemeral.service': {
    ...NONE_OF_EXCHANGE,
    ...writing('/var/lib/hostcertd-enroll/probe', '/run/sshd/probe'),
  },
  'hostcertd-textfile.service': {
    ...NONE_OF_HOSTCERTD,
    ...writing('/var/lib/hostcertd/probe', '/run/hostcertd/probe'),
  },
}

/** The question of agent/host/served-certificates.ts. */
const ASK_SSHD = `ssh -F none -T -o BatchMode=yes -o StrictHostKeyChecking=yes \
-o UserKnownHostsFile=/dev/null -o GlobalKnownHostsFile=/dev/null -o IdentityFile=none -o IdentitiesOnly=yes \
-o HostKeyAlgorithms=ssh-ed25519-cert-v01@openssh.com,ssh-ed25519 \
-o "KnownHostsCommand=/bin/sh -c 'echo nonce %t %K >&2'" probe@127.0.0.1 true`

const ASKED_SSHD = `${ASK_SSHD} 2>&1 | grep -q '^nonce ssh-ed25519-cert-v01@openssh.com AAAA'`

/** What it must be able to do: its work. */
export const ALLOWED: Readonly<Record<ConfinedUnit, Probes>> = {
  'hostcertd.service': {
    ...writing('/var/lib/hostcertd/probe', '/var/lib/hostcertd/certs/probe', '/run/hostcertd/probe'),
    ...reading('/etc/ssh/ssh_host_ed25519_key.pub'),
    ...sockets({ AF_INET: 2, AF_INET6: 10 }),
    // ssh becomes its own user before it runs the command that shows the key.
    'ask sshd what it presents': ASKED_SSHD,
  },
  'hostcertd-exchange@probe.service': {
    ...reading('/etc/hostcertd/hostcertd.yaml', '$CREDENTIALS_DIRECTORY/hostcertd_client-secret'),
    ...sockets({ AF_INET: 2, AF_INET6: 10 }),
  },
  'hostcertd-reload@probe.service': {
    ...writing('/etc/ssh/probe', '/run/sshd/probe', '/run/hostcertd-reload/probe'),
    ...reading('/etc/ssh/ssh_host_ed25519_key', '/var/lib/hostcertd/certs/ssh_host_ed25519_key-cert.pub'),
    'judge what sshd is told': 'sshd -t',
    'reload sshd': 'systemctl reload ssh.service',
  },
  'hostcertd-ca.service': {
    ...writing(
      '/etc/ssh/probe',
      '/var/lib/hostcertd-enroll/probe',
      '/run/sshd/probe',
      '/run/hostcertd-reload/probe',
    ),
    ...reading('/etc/ssh/ssh_host_ed25519_key', '/etc/hostcertd/hostcertd.yaml'),
    'judge what sshd is told': 'sshd -t',
    'ask the root helper': askSocket('/run/hostcertd-reload.sock'),
    'ask an exchange': askSocket('/run/hostcertd-exchange.sock'),
  },
  'hostcertd-enroll.service': {
    ...ENROLLING,
    ...writing(
      '/etc/ssh/probe',
      '/etc/default/probe',
      '/var/lib/hostcertd-enroll/probe',
      '/var/lib/hostcertd/certs/probe',
      '/run/sshd/probe',
      '/run/hostcertd-enroll/probe',
      // The lock of the root helper.
      '/run/hostcertd-reload/probe',
    ),
    ...reading('/etc/ssh/ssh_host_ed25519_key', '/etc/hostcertd/credentials/client-secret'),
    ...sockets({ AF_INET: 2, AF_INET6: 10 }),
    'judge what sshd is told': 'sshd -t',
    'ask the root helper': askSocket('/run/hostcertd-reload.sock'),
    'ask an exchange': askSocket('/run/hostcertd-exchange.sock'),
    'start the service': 'systemctl start hostcertd.service',
  },
  'hostcertd-ephemeral.service': {
    ...writing('/run/hostcertd-ephemeral/probe'),
    ...reading('/etc/hostcertd/hostcertd.yaml', '$CREDENTIALS_DIRECTORY/hostcertd_client-secret'),
    ...sockets({ AF_INET: 2, AF_INET6: 10 }),
    'ask systemd what it is about to do': 'systemctl list-jobs',
  },
  'hostcertd-textfile.service': {
    ...writing('/run/hostcertd-textfile/probe'),
    ...reading('/etc/ssh/ssh_host_ed25519_key.pub'),
    ...sockets({ AF_INET: 2, AF_INET6: 10 }),
  },
}
