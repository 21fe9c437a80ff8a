import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { underAttack } from './support/attack.ts'
import type { Container } from './support/container.ts'
import { sharedEnrolledHost, untilServed } from './support/installed-host.ts'
import { BOOKWORM, describeOnEachRelease } from './support/releases.ts'
import { unitProperty } from './support/status.ts'

const UNIT = 'hostcertd.service'
const SECONDS = process.env['HOSTCERTD_FAULTS'] === 'all' ? 60 : 6
/** MemoryMax of the unit is 256M; some of the processes that it starts count too. */
const MOST_MEBIBYTES = 160
/** For a monitor that asks every half second. */
const LONGEST_ANSWER_MILLISECONDS = 3000

/** From the end of the flood on, with three logins by a client before the issuer is well again. */
const LONGEST_RECOVERY_SECONDS = 20

const ASK = `
const begun = performance.now()
fetch('http://127.0.0.1:9847/livez', { signal: AbortSignal.timeout(10000) }).then(
  (answer) => console.log(answer.status, performance.now() - begun),
  (error) => console.log(0, String(error)))`

interface Flood {
  readonly name: string
  readonly user: string
  /** Perl, see `underAttack`; its arguments are the daemon's process id. */
  readonly script: string
  /** Requests that the issuer may get while nothing can be issued. */
  readonly mostRequests: number
}

const KEYS = '/etc/ssh/ssh_host_ed25519_key.pub /etc/ssh/ssh_host_rsa_key.pub /etc/ssh/ssh_host_ecdsa_key.pub'

const FLOODS: readonly Flood[] = [
  {
    name: 'thousands of SIGUSR1',
    user: 'hostcertd',
    script: `begun(); my $n = 0; until (over()) { kill 'USR1', $ARGV[0]; $n++; rest(0.001) } print "$n signals";`,
    mostRequests: 8,
  },
  {
    name: 'thousands of SIGHUP',
    user: 'hostcertd',
    script: `begun(); my $n = 0; until (over()) { kill 'HUP', $ARGV[0]; $n++; rest(0.001) } print "$n signals";`,
    mostRequests: 100,
  },
  {
    name: 'public keys touched and replaced hundreds of times a second',
    user: 'root',
    script: `
      my @keys = qw(${KEYS}); begun(); my $n = 0;
      until (over()) {
        for my $key (@keys) {
          open(my $f, '<', $key); my $text = join '', <$f>; close $f;
          open(my $g, '>', "$key.new"); print $g $text; close $g; rename "$key.new", $key; utime undef, undef, $key; $n++;
        }
        rest(0.004);
      }
      print "$n replaced";`,
    mostRequests: 8,
  },
  {
    name: 'keys that come and go',
    user: 'root',
    script: `
      my @keys = qw(${KEYS}); begun(); my $n = 0;
      until (over()) {
        for my $key (@keys) { rename $key, "$key.away"; rest(0.01); rename "$key.away", $key; rest(0.01); $n++ }
      }
      print "$n times";`,
    mostRequests: 8,
  },
  {
    name: 'slow, pipelining and idle clients of the health port',
    user: 'nobody',
    script: `
      my (@sockets, $n); $n = 0;
      sub to_port { socket(my $s, AF_INET, SOCK_STREAM, 0); fcntl($s, F_SETFL, O_NONBLOCK);
        connect($s, sockaddr_in(9847, inet_aton('127.0.0.1'))); $n++; $s }
      begun();
      until (over()) {
        push @sockets, to_port() for 1 .. 8;
        my $kind = 0;
        for my $s (@sockets) {
          $kind++;
          if ($kind % 3 == 0) { syswrite $s, "GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n" x 50 }
          elsif ($kind % 3 == 1) { syswrite $s, $kind % 2 ? 'G' : "GET / HTTP/1.1\\r\\nX-A: b\\r\\n" }
        }
        shift @sockets while @sockets > 300;
        rest(0.05);
      }
      print "$n connections";`,
    mostRequests: 8,
  },
]

describeOnEachRelease(
  'floods',
  (release) => {
    const shared = sharedEnrolledHost(release)

    test.each(FLOODS)(
      '$name: little memory, a monitor is answered, few requests to an issuer that is down',
      async ({ name, user, script, mostRequests }) => {
        const { container, issuer, client } = shared()
        const pid = await unitProperty(container, UNIT, 'MainPID')
        // Something is due, and cannot be done: each look could be a request.
        await issuer.ask({ do: 'fail-always', fault: { status: 503, body: { message: 'out of order' } } })
        await container.sh('rm -f /var/lib/hostcertd/certs/ssh_host_rsa_key-cert.pub')
        await container.run(['systemctl', 'kill', '--kill-who=main', '--signal=SIGUSR1', UNIT])
        const before = Number(await issuer.ask({ do: 'count-requests' }))
        const { said, done: answers } = await underAttack(container, user, script, [pid], () =>
          askForSeconds(container),
        )
        const ended = performance.now()
        const requests = Number(await issuer.ask({ do: 'count-requests' })) - before
        const peak = await peakMebibytes(container, pid)
        const slowest = Math.max(...answers.map(({ milliseconds }) => milliseconds))
        console.log(
          `${release.title}: ${name}: ${said}; resident at most ${peak.toFixed(0)} MiB, ${answers.length} answers within ${slowest.toFixed(0)} ms, ${requests} requests`,
        )
        expect(answers.filter(({ status }) => status !== 200)).toEqual([])
        expect(answers.length).toBeGreaterThan(2)
        expect(slowest).toBeLessThan(LONGEST_ANSWER_MILLISECONDS)
        expect(peak).toBeLessThan(MOST_MEBIBYTES)
        expect(requests).toBeLessThanOrEqual(mostRequests)
        expect(await unitProperty(container, UNIT, 'NRestarts')).toBe('0')
        expect(await unitProperty(container, UNIT, 'MainPID')).toBe(pid)
        // sshd serves what it served, for what root has copied stays.
        expect(await client.verifyAll()).toEqual([])
        await issuer.ask({ do: 'heal' })
        await container.run(['systemctl', 'reload', UNIT])
        await untilServed(shared())
        const seconds = (performance.now() - ended) / 1000
        console.log(`${release.title}: ${name}: recovered within ${seconds.toFixed(1)} s`)
        expect(seconds).toBeLessThan(LONGEST_RECOVERY_SECONDS)
      },
    )
  },
  [BOOKWORM],
)

interface MonitorAnswer {
  readonly status: number
  readonly milliseconds: number
}

/** As a monitor does, on a connection of its own. */
async function askForSeconds(container: Container): Promise<readonly MonitorAnswer[]> {
  const answers: MonitorAnswer[] = []
  for (const end = performance.now() + SECONDS * 1000; performance.now() < end;) {
    const said = await container.run(['/usr/lib/hostcertd/bin/node', '-e', ASK])
    const [status, milliseconds] = said.trim().split(' ').map(Number)
    answers.push({ status: status ?? 0, milliseconds: milliseconds ?? Number.NaN })
    await sleep(500)
  }
  return answers
}

async function peakMebibytes(container: Container, pid: string): Promise<number> {
  const status = await container.run(['cat', `/proc/${pid}/status`])
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024
}
