import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { signCertificate } from '../support/ssh-keygen.ts'
import { perlAs, underAttack } from './support/attack.ts'
import { eventually } from './support/eventually.ts'
import { sharedEnrolledHost, untilServed } from './support/installed-host.ts'
import { BOOKWORM, describeOnEachRelease } from './support/releases.ts'
import { copiedCertificates, servedCertificates } from './support/served.ts'
import { journal, unitProperty } from './support/status.ts'

const STAGED = '/var/lib/hostcertd/certs'
const COPIES = '/etc/ssh/hostcertd'
const NAME = 'ssh_host_ed25519_key-cert.pub'
const EXCHANGE = '/run/hostcertd-exchange.sock'
const RELOAD = '/run/hostcertd-reload.sock'
const INSTALLS = process.env['HOSTCERTD_FAULTS'] === 'all' ? 300 : 25

/** Somebody on the host, and the two users of the package, without the sandbox of their units. */
const USERS = ['mallory', 'hostcertd', 'hostcertd-exchange'] as const

/** Prints what its user can do with each path: `r` read or list it, `w` write or make a file in it, `c` connect, or `-`. */
const TRY_PATHS = `
use Fcntl; use Socket;
for my $path (@ARGV) {
  my $can = '';
  if (-S $path || $path =~ /\\.sock$/) {
    socket(my $s, AF_UNIX, SOCK_STREAM, 0);
    $can = connect($s, sockaddr_un($path)) ? 'c' : '';
  } elsif (opendir(my $d, $path)) {
    $can = 'r';
    my $probe = "$path/probe$$";
    if (sysopen(my $f, $probe, O_WRONLY | O_CREAT | O_EXCL)) { $can .= 'w'; unlink $probe }
  } else {
    $can .= 'r' if sysopen(my $f, $path, O_RDONLY | O_NONBLOCK);
    $can .= 'w' if sysopen(my $g, $path, O_WRONLY | O_NONBLOCK);
  }
  print "$path ", $can || '-', "\\n";
}`

/** What each of these users can do with each path. */
const EXPECTED: Readonly<Record<string, readonly [string, string, string]>> = {
  '/etc/hostcertd': ['r', 'r', 'r'],
  '/etc/hostcertd/hostcertd.yaml': ['r', 'r', 'r'],
  '/etc/hostcertd/host-ca.pub': ['r', 'r', 'r'],
  '/etc/hostcertd/tls-ca.pem': ['r', 'r', 'r'],
  '/etc/hostcertd/credentials': ['-', '-', '-'],
  '/etc/hostcertd/credentials/client-secret': ['-', '-', '-'],
  '/var/lib/hostcertd': ['r', 'rw', 'r'],
  '/var/lib/hostcertd/attempts.json': ['-', 'rw', '-'],
  [STAGED]: ['r', 'rw', 'r'],
  [`${STAGED}/${NAME}`]: ['r', 'rw', 'r'],
  [COPIES]: ['r', 'r', 'r'],
  [`${COPIES}/${NAME}`]: ['r', 'r', 'r'],
  '/etc/ssh': ['r', 'r', 'r'],
  '/etc/ssh/sshd_config': ['r', 'r', 'r'],
  '/etc/ssh/sshd_config.d': ['r', 'r', 'r'],
  '/etc/ssh/sshd_config.d/40-hostcertd.conf': ['r', 'r', 'r'],
  '/etc/ssh/ssh_host_ed25519_key': ['-', '-', '-'],
  '/etc/ssh/ssh_host_ed25519_key.pub': ['r', 'r', 'r'],
  '/run': ['r', 'r', 'r'],
  '/run/hostcertd': ['r', 'rw', 'r'],
  '/run/hostcertd-reload': ['r', 'r', 'r'],
  '/run/hostcertd-reload/reloads': ['-', '-', '-'],
  '/usr/lib/hostcertd': ['r', 'r', 'r'],
  '/usr/lib/hostcertd/hostcertd.js': ['r', 'r', 'r'],
  '/usr/lib/hostcertd/reload-helper': ['r', 'r', 'r'],
  '/usr/lib/hostcertd/cache': ['r', 'r', 'r'],
  [EXCHANGE]: ['-', 'c', '-'],
  [RELOAD]: ['-', 'c', '-'],
}

/** Connects so often, sends bytes on each connection again and again, and keeps all of them open. */
const CROWD = `
my ($path, $count, $what) = @ARGV;
my (@sockets, $made);
for (1 .. $count) {
  socket(my $s, AF_UNIX, SOCK_STREAM, 0);
  fcntl($s, F_SETFL, O_NONBLOCK);
  $made++ if connect($s, sockaddr_un($path));
  push @sockets, $s;
}
my %bytes = (nothing => sub { '' }, slow => sub { 'i' }, long => sub { 'x' x 65536 },
  garbage => sub { join '', map chr(rand 256), 1 .. 4096 });
begun();
my $sent = 0;
until (over()) {
  for my $s (@sockets) { $sent += syswrite($s, $bytes{$what}->()) || 0 }
  rest(0.05);
}
print "$made connections, $sent bytes";`

/** Asks the helper to install, again and again; prints the first words of its answers, and how often each came. */
const INSTALL = `
use Socket;
$SIG{PIPE} = 'IGNORE';
my ($path, $count) = @ARGV;
my %answers;
for (my $tries = 0; $count > 0 && $tries < 20000; $tries++) {
  socket(my $s, AF_UNIX, SOCK_STREAM, 0);
  connect($s, sockaddr_un($path)) or next;
  syswrite $s, "install\\n"; shutdown $s, 1;
  # Closed at once while another one runs, or ends.
  my $answer = <$s>;
  if (defined $answer) { $answers{(split ' ', $answer)[0]}++; $count-- } else { select(undef, undef, undef, 0.02) }
}
print join(' ', map { "$_ $answers{$_}" } sort keys %answers), "\\n";`

/** Swaps the staged file for one thing after the other, as fast as it can. */
const SWAP = `
my ($staged, $a, $b) = @ARGV;
my $new = "$staged.new";
sub put { open(my $f, '>', $new); print $f $_[0]; close $f; rename $new, $staged }
sub link_to { symlink $_[0], $new; rename $new, $staged }
my @swaps = (
  sub { put($a) }, sub { put($b) }, sub { put($a) }, sub { put($b) },
  sub { put("$b$a") }, sub { put("# comment\n$b") }, sub { put(substr $b, 0, 300) }, sub { put('x' x 100000) },
  sub { link_to('/etc/ssh/ssh_host_ed25519_key') }, sub { link_to('/etc/shadow') }, sub { link_to('/dev/zero') },
  sub { POSIX::mkfifo($new, 0644); rename $new, $staged },
  sub { unlink $staged; mkdir $staged; rmdir $staged },
  # In place, in two parts: a reader can meet the middle.
  sub { unlink $staged; open(my $f, '>', $staged); syswrite $f, substr $a, 0, 200; syswrite $f, substr $a, 200 },
  sub { sysopen(my $f, $staged, O_WRONLY | O_NOFOLLOW | O_NONBLOCK) or return; sysseek $f, 100, 0; syswrite $f, 'AAAA' },
);
begun();
my $count = 0;
until (over()) { unlink $new; $swaps[rand @swaps]->(); $count++; rest(rand 0.004) }
unlink $new;
print $count;`

describeOnEachRelease(
  'local attackers',
  (release) => {
    const shared = sharedEnrolledHost(release)
    beforeAll(async () => void (await shared().container.run(['useradd', 'mallory'])))
    afterAll(async () => void (await shared().container.run(['userdel', 'mallory'])))

    test('each user can open only what is meant for it', async () => {
      const { container } = shared()
      const found: Record<string, string[]> = {}
      for (const user of USERS) {
        const said = await container.run(perlAs(user, TRY_PATHS, ...Object.keys(EXPECTED)))
        for (const line of said.trim().split('\n')) {
          const [path = '', can = ''] = line.split(' ')
          ;(found[path] ??= []).push(can)
        }
      }
      expect(found).toEqual(EXPECTED)
    })

    test('the credential, environment and memory of an exchange are closed to other users while it runs', async () => {
      const { container } = shared()
      await underAttack(container, 'hostcertd', CROWD, [EXCHANGE, '1', 'nothing'], async () => {
        const [pid, secrets] = await eventually('an exchange runs', 20_000, async () => {
          const pids = await container.run(['pgrep', '--full', 'hostcertd.js exchange'])
          const [first = ''] = pids.split('\n')
          const unit = basename((await container.run(['cat', `/proc/${first}/cgroup`])).trim())
          return [first, await container.run(['find', `/run/credentials/${unit}`, '-type', 'f'])] as const
        })
        expect(secrets).toContain('client-secret')
        const paths = [
          ...secrets.trim().split('\n'),
          ...['environ', 'mem', 'fd'].map((name) => `/proc/${pid}/${name}`),
        ]
        for (const user of ['mallory', 'hostcertd']) {
          const said = await container.run(perlAs(user, TRY_PATHS, ...paths))
          expect(`${user}: ${said}`).toBe(`${user}: ${paths.map((path) => `${path} -\n`).join('')}`)
        }
      })
    })

    test.each([
      { socket: EXCHANGE, kinds: ['garbage', 'long', 'nothing'], what: 'garbage, long lines or nothing' },
      { socket: RELOAD, kinds: ['garbage', 'long', 'slow'], what: 'garbage, long lines or a byte at a time' },
    ])(
      '60 connections to $socket that send $what: nothing is issued or reloaded, and renewals go on',
      async ({ socket, kinds }) => {
        const { container, issuer } = shared()
        const before = await servedCertificates(shared())
        const signed = await issuer.ask({ do: 'count' })
        const sshd = await unitProperty(container, 'ssh.service', 'StateChangeTimestampMonotonic')
        const unit = basename(socket).replace('.sock', '.socket')
        const accepted = async () => Number(await unitProperty(container, unit, 'NAccepted'))
        for (const kind of kinds) {
          await eventually('the connections before are closed', 20_000, async () => {
            return (await unitProperty(container, unit, 'NConnections')) === '0'
          })
          const earlier = await accepted()
          const { said } = await underAttack(
            container,
            'hostcertd',
            CROWD,
            [socket, '60', kind],
            async () => {
              await eventually('a connection was accepted', 20_000, async () => (await accepted()) > earlier)
            },
          )
          console.log(`${release.title}: ${socket}, ${kind}: ${said}`)
        }
        expect(await issuer.ask({ do: 'count' })).toBe(signed)
        expect(await servedCertificates(shared())).toEqual(before)
        expect(await unitProperty(container, 'ssh.service', 'StateChangeTimestampMonotonic')).toBe(sshd)
        await eventually('a renewal', 30_000, async () => {
          const { status } = await container.try(['hostcertd', 'renew', '--force'])
          return status === 0
        })
        expect(await unitProperty(container, 'hostcertd.service', 'NRestarts')).toBe('0')
      },
    )

    test('a flood of connections closes the socket of the exchange, and a restart of the service opens it', async () => {
      const { container } = shared()
      const before = await servedCertificates(shared())
      const script = `begun();
        until (over()) { socket(my $s, AF_UNIX, SOCK_STREAM, 0); connect($s, sockaddr_un($ARGV[0])) or rest(0.01) }`
      await underAttack(container, 'hostcertd', script, [EXCHANGE], async () => {
        await eventually('systemd closes the socket', 30_000, async () => {
          return (
            (await unitProperty(container, 'hostcertd-exchange.socket', 'Result')) === 'trigger-limit-hit'
          )
        })
      })
      expect(await servedCertificates(shared())).toEqual(before)
      await container.sh(`rm ${STAGED}/*; systemctl reload hostcertd.service`)
      await eventually('the daemon reports it', 20_000, async () => {
        const lines = await journal(container, '--priority=warning')
        return lines.some((line) => line.includes('systemctl restart hostcertd-exchange.socket'))
      })
      await container.run(['systemctl', 'restart', 'hostcertd.service'])
      await untilServed(shared())
    })

    test('the staged file swapped while root copies it: each copy is always a whole certificate of this host', async () => {
      const { container, client, issuer } = shared()
      await container.run(['systemctl', 'stop', 'hostcertd.service'])
      const copy = join(container.root, COPIES, NAME)
      const read = (): string => readFileSync(copy, 'latin1')
      const publicKey = (await container.run(['cat', '/etc/ssh/ssh_host_ed25519_key.pub'])).trimEnd()
      const wish = { ca: issuer.facts.caKeyPath, publicKey, principals: ['web1.example.com'] }
      const good = [read()]
      for (const serial of [7001n, 7002n])
        good.push(`${await signCertificate({ ...wish, kind: 'host', serial })}\n`)
      const seen = new Map<string, number>()
      let reads = 0
      const over = new AbortController()
      const look = async (): Promise<void> => {
        while (!over.signal.aborted) {
          // Nothing else may ever be there, a temporary folder of the helper's apart.
          const others = readdirSync(join(container.root, COPIES)).filter(
            (name) => !/^(?:ssh_host_\w+_key-cert\.pub|\.install\.\w+)$/.test(name),
          )
          for (const text of [read(), ...others]) seen.set(text, (seen.get(text) ?? 0) + 1)
          reads += 1
          await sleep(2)
        }
      }
      const looking = look()
      const staged = `${STAGED}/${NAME}`
      const { said, done: answers } = await underAttack(
        container,
        'hostcertd',
        SWAP,
        [staged, ...good.slice(1)],
        async () =>
          container.run(perlAs('hostcertd', INSTALL, RELOAD, String(INSTALLS)), { timeout: 900_000 }),
      ).finally(() => over.abort())
      await looking
      console.log(
        `${release.title}: ${INSTALLS} installs, ${said} swaps, ${reads} reads of the copy: ${answers.trim()}, ${seen.size} contents`,
      )
      expect([...seen.keys()].filter((text) => !good.includes(text))).toEqual([])
      // Some were installed: the race was won now and then.
      expect(seen.size).toBeGreaterThan(1)
      expect(answers).toBe(`ok ${INSTALLS}\n`)
      expect(await client.verifyAll(['ssh-ed25519'])).toEqual([])
      await container.sh(`rm -rf ${STAGED}/${NAME}; systemctl start hostcertd.service`)
      await untilServed(shared())
      expect(await copiedCertificates(shared())).toEqual(await servedCertificates(shared()))
    })

    test('`config validate` as root finds files that umask 077 closed to the users of the service', async () => {
      const { container } = shared()
      const validate = async () => container.try(['hostcertd', 'config', 'validate'])
      expect(await validate()).toMatchObject({ status: 0 })
      await container.run(['chmod', '600', '/etc/hostcertd/tls-ca.pem'])
      expect(await validate()).toMatchObject({
        status: 78,
        stderr: '',
        stdout: expect.stringMatching(
          /^CONFIG_INVALID: issuer\.ca_file: the user hostcertd-exchange cannot read it: \/etc\/hostcertd\/tls-ca\.pem /,
        ) as string,
      })
      await container.run(['chmod', '600', '/etc/hostcertd/hostcertd.yaml'])
      const { status, stdout } = await validate()
      expect({ status, stdout }).toEqual({
        status: 78,
        stdout: expect.stringContaining(
          '/etc/hostcertd/hostcertd.yaml: cannot be read: permission denied',
        ) as string,
      })
      expect(stdout).toContain('issuer.ca_file')
      await container.run(['chmod', '644', '/etc/hostcertd/tls-ca.pem', '/etc/hostcertd/hostcertd.yaml'])
    })
  },
  [BOOKWORM],
)
