// Each loop ends where the command gets to its end: the step is looked at only there.
/* oxlint-disable vitest/no-conditional-expect */
import { existsSync } from 'node:fs'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { runsIf } from '../../support/skip.ts'
import type { Outcome } from '../support/commands.ts'
import { enrollCommand, interrupt, linesSaid, runSaying, stateOfHost } from '../support/enrolling.ts'
import { eventually } from '../support/eventually.ts'
import { bootHost, type Host } from '../support/host.ts'
import { install } from '../support/installed-host.ts'
import { describeOnEachRelease } from '../support/releases.ts'

const STRACE = '/usr/bin/strace'
const needsStrace = runsIf(existsSync(STRACE), 'strace is not installed')
/** What puts a file in place, or removes it: between two of them nothing on the host changes. strace counts each by itself. */
const STEPS = ['rename', 'unlink', 'rmdir'] as const
/** Of those steps each third is taken: the journal and other files take turns, so both come to it. test/enroll takes all. */
const STRIDE = 3
const MANY_MINUTES = 30 * 60_000
const UNENROLL = 'hostcertd unenroll --yes'
const SIGNALS = ['INT', 'TERM', 'HUP'] as const

describeOnEachRelease('an enrollment that is interrupted or fails', (release) => {
  let host: Host
  let line = ''
  let before = ''
  beforeAll(async () => {
    host = await bootHost(release)
    await install(host, 'deb')
    before = await stateOfHost(host)
    line = `${await enrollCommand(host)} --yes --json`
  })
  afterAll(async () => {
    await host?.[Symbol.asyncDispose]()
  })
  beforeEach(async () => {
    await host.issuer.ask({ do: 'heal' })
  })

  /** Whatever was interrupted: sshd answers, and a restart of it would be no surprise. */
  const expectSshd = async (when: string): Promise<void> => {
    expect({ when, sshd: await host.container.try(['sshd', '-t']) }).toMatchObject({ sshd: { status: 0 } })
    expect({ when, ...(await host.client.logIn(null)) }).toMatchObject({ when, stdout: 'hello\n' })
  }
  const expectAsBefore = async (when: string): Promise<void> => {
    await expectSshd(when)
    expect({ when, state: await stateOfHost(host) }).toEqual({ when, state: before })
    const served = await host.client.logIn('ssh-ed25519')
    expect({ when, ...served }).toMatchObject({ when, status: 255 })
  }
  /** The next enroll ends well. */
  const expectEnrollment = async (when: string): Promise<void> => {
    await expectSshd(when)
    await forgetReloads(host)
    const again = await host.container.try(['sh', '-c', line])
    expect({ when, ...again }).toMatchObject({ when, status: 0 })
    expect(JSON.parse(again.stdout)).toMatchObject({ hostname: 'web1.example.com' })
    expect({ when, complaints: await host.client.verifyAll() }).toEqual({ when, complaints: [] })
  }
  /** The next unenroll gives back what was there before all. */
  const expectWayBack = async (when: string): Promise<void> => {
    await forgetReloads(host)
    expect({ when, ...(await host.container.try(['sh', '-c', UNENROLL])) }).toMatchObject({ when, status: 0 })
    await expectAsBefore(when)
  }
  const expectRecovery = async (when: string): Promise<void> => {
    await expectEnrollment(when)
    await expectWayBack(when)
  }

  test(
    'a power cut after each message: the next call after the boot recovers',
    async () => {
      for (let lines = 1; ; lines++) {
        const state = { isOver: false }
        const running = runSaying(host, line).then(
          () => (state.isOver = true),
          () => (state.isOver = true),
        )
        const isSaid = linesSaid(host, lines)
        await eventually('it has said that much', 60_000, async () => state.isOver || (await isSaid()))
        const wasOver = state.isOver
        await host.container.cutPower()
        await running
        await host.container.boot()
        await expectRecovery(`power cut after ${lines} lines`)
        if (wasOver) return
      }
    },
    MANY_MINUTES,
  )

  test(
    'a signal after each message undoes everything at once and says what',
    async () => {
      for (let lines = 1; ; lines++) {
        const signal = SIGNALS[lines % SIGNALS.length] ?? 'INT'
        await forgetReloads(host)
        const { status, stderr } = await interrupt(host, line, signal, linesSaid(host, lines))
        const when = `SIG${signal} after ${lines} lines: ${stderr}`
        if (status === 0) {
          expect({ when, lines: lines > 6 }).toEqual({ when, lines: true })
          await expectRecovery(when)
          return
        }
        expect({ when, status }).toEqual({ when, status: 1 })
        expect(stderr).toContain(`ended by SIG${signal}`)
        if (lines > 3)
          expect(stderr).toMatch(/^undone: what was changed \(.*store the credential client-secret.*\)$/m)
        await expectAsBefore(when)
      }
    },
    MANY_MINUTES,
  )

  test(
    'a signal while the issuer is silent changes nothing',
    async () => {
      for (const signal of ['INT', 'TERM', 'KILL'] as const) {
        await host.issuer.ask({ do: 'fail-always', fault: { kind: 'hang' } })
        const asked = await host.issuer.ask({ do: 'count-requests' })
        const { status, stderr } = await interrupt(
          host,
          line,
          signal,
          async () => (await host.issuer.ask({ do: 'count-requests' })) !== asked,
        )
        expect({ status: status === 0, stderr }).toMatchObject({ status: false })
        await host.issuer.ask({ do: 'heal' })
        await expectAsBefore(`SIG${signal} before an answer`)
      }
      await expectRecovery('after signals before an answer')
    },
    MANY_MINUTES,
  )

  describe('at each change of a file', needsStrace, () => {
    test(
      'SIGKILL: the next enroll and unenroll recover',
      async () => {
        const faults = { enroll: faultsOf(), unenroll: faultsOf() }
        while (faults.enroll.next !== null || faults.unenroll.next !== null) {
          for (const [verb, command] of [
            ['enroll', line],
            ['unenroll', UNENROLL],
          ] as const) {
            const at = faults[verb].next
            const when = `SIGKILL of ${verb} at ${JSON.stringify(at)}`
            if (at !== null) {
              await forgetReloads(host)
              const { status } = await traced(host, command, `${at.call}:signal=KILL:when=${at.count}`)
              faults[verb].after(status)
              await expectSshd(when)
            }
            await (verb === 'enroll' ? expectEnrollment(when) : expectWayBack(when))
          }
        }
        const done = { enroll: faults.enroll.done() > 3, unenroll: faults.unenroll.done() > 4 }
        expect(done).toEqual({ enroll: true, unenroll: true })
      },
      MANY_MINUTES,
    )

    test(
      'a signal to unenroll, once it has begun, does not keep it from its end',
      async () => {
        for (const [index, signal] of SIGNALS.entries()) {
          await expectEnrollment(`before SIG${signal}`)
          await forgetReloads(host)
          const fault = `unlink:signal=${signal}:when=${1 + index * 4}`
          const { stderr } = await traced(host, UNENROLL, fault)
          await expectAsBefore(`SIG${signal} to unenroll: ${stderr}`)
        }
      },
      MANY_MINUTES,
    )

    test(
      'a power cut of unenroll: the next call after the boot ends it',
      async () => {
        for (const at of [1, 4]) {
          // It waits there for longer than the power is on.
          const fault = `rename:delay_enter=120s:when=${at}`
          await expectEnrollment(`before the power cut at change ${at}`)
          await forgetReloads(host)
          await rm(traceOf(host), { force: true })
          const tracing = new AbortController()
          const unenrolling = traced(host, UNENROLL, fault, tracing.signal).catch(() => null)
          await eventually(
            'unenroll has come that far',
            60_000,
            async () => (await readFile(traceOf(host), 'utf8')).split(' rename(').length > at,
          )
          const cut = host.container.cutPower()
          // Or strace would wait on, and keep what it traces.
          tracing.abort()
          await cut
          await unenrolling
          await host.container.boot()
          await expectSshd(`a power cut of unenroll at change ${at}`)
          await expectWayBack(`a power cut of unenroll at change ${at}`)
        }
      },
      MANY_MINUTES,
    )

    test(
      'a full disk and a read-only one: undone at once, or by the next call',
      async () => {
        for (let at = 1; ; at += STRIDE) {
          await forgetReloads(host)
          const code = at % 2 === 0 ? 'ENOSPC' : 'EROFS'
          const { status, stderr } = await traced(host, line, `rename:error=${code}:when=${at}`)
          const when = `${code} at change ${at}: ${stderr}`
          if (status === 0) {
            expect(at).toBeGreaterThan(8)
            await expectRecovery(when)
            return
          }
          expect({ when, status }).toEqual({ when, status: 1 })
          expect(stderr).toMatch(/^STORE_FAILED: cannot write \/\S+: .*(?:no space|read-only)/m)
          await expectAsBefore(when)
        }
      },
      MANY_MINUTES,
    )
  })

  test.each([
    {
      what: 'sshd refuses its configuration',
      breakIt: 'echo Nonsense yes >/etc/ssh/sshd_config.d/90-broken.conf',
      mendIt: 'rm /etc/ssh/sshd_config.d/90-broken.conf',
      says: /^SSHD_CONFIG_INVALID: .*90-broken\.conf/m,
    },
    {
      what: 'the service does not start',
      breakIt: 'systemctl mask --quiet hostcertd.service',
      mendIt: 'systemctl unmask --quiet hostcertd.service',
      says: /^STORE_FAILED: hostcertd\.service is masked: /m,
    },
    {
      what: 'the configuration is on a read-only file system',
      breakIt: 'mount --bind /etc/hostcertd /etc/hostcertd; mount -o remount,ro,bind /etc/hostcertd',
      mendIt: 'umount /etc/hostcertd',
      says: /^STORE_FAILED: cannot write \/etc\/hostcertd\/.*read-only/m,
    },
    {
      what: 'there is no room for the journal',
      breakIt:
        'mount -t tmpfs -o size=4k,mode=755 tmpfs /var/lib/hostcertd-enroll; head -c 4096 /dev/zero >/var/lib/hostcertd-enroll/full || true',
      mendIt: 'umount /var/lib/hostcertd-enroll',
      says: /^STORE_FAILED: cannot write \/var\/lib\/hostcertd-enroll\/journal\.json: .*no space/m,
    },
  ])(
    '$what: undone at once, and the next call ends well',
    async ({ what, breakIt, mendIt, says }) => {
      await forgetReloads(host)
      await host.container.sh(breakIt)
      const { status, stderr } = await host.container.try(['sh', '-c', line])
      await host.container.sh(mendIt)
      expect({ status, stderr }).toEqual({ status: 1, stderr: expect.stringMatching(says) })
      await expectRecovery(what)
    },
    MANY_MINUTES,
  )

  test(
    'the issuer stops answering, or its certificate is refused: nothing is changed',
    async () => {
      const other = `SHA256:${'a'.repeat(43)}`
      const refused = await host.container.try(['sh', '-c', `${line} --ca-fingerprint ${other}`])
      expect(refused).toMatchObject({ status: 1, stderr: expect.stringContaining('CERT_CA_MISMATCH') })
      await expectAsBefore('a certificate of another CA')
      await host.issuer.ask({ do: 'stop' })
      const stopped = await host.container.try(['sh', '-c', line])
      await host.issuer.ask({ do: 'start' })
      expect(stopped).toMatchObject({ status: 1, stderr: expect.stringContaining('ISSUER_UNREACHABLE') })
      await expectRecovery('an issuer that was gone')
    },
    MANY_MINUTES,
  )

  test(
    'the issuer stops answering after it was found: undone after the wait',
    async () => {
      await forgetReloads(host)
      const waiting = runSaying(host, `${line} --wait 5s`)
      await eventually('a certificate was issued', 60_000, linesSaid(host, 3))
      await host.issuer.ask({ do: 'fail-always', fault: { kind: 'hang' } })
      expect((await waiting).stderr).toMatch(/^SSHD_NOT_SERVING: /m)
      await host.issuer.ask({ do: 'heal' })
      await expectRecovery('an issuer that went away')
    },
    MANY_MINUTES,
  )
})

interface Faults {
  /** Null: the command has come to its end without it, at each of the calls. */
  readonly next: { readonly call: string; readonly count: number } | null
  readonly after: (status: number | null) => void
  /** How many there were. */
  readonly done: () => number
}

/** Each of {@link STEPS}, as often as a command comes to it. */
function faultsOf(): Faults {
  const calls: string[] = [...STEPS]
  let [count, done] = [1, 0]
  return {
    get next() {
      const [call] = calls
      return call === undefined ? null : { call, count }
    },
    after: (status) => {
      if (status === 0) {
        calls.shift()
        count = 1
      } else {
        count += STRIDE
        done += 1
      }
    },
    done: () => done,
  }
}

/** A command of the host under strace, with a fault at one of its system calls; files are written by one thread. */
async function traced(host: Host, command: string, fault: string, signal?: AbortSignal): Promise<Outcome> {
  const trace = [
    STRACE,
    '-f',
    '-qq',
    '-o',
    traceOf(host),
    '-e',
    `trace=${STEPS.join()}`,
    '-e',
    `inject=${fault}`,
  ]
  return host.container.try(
    ['sh', '-c', `exec env UV_THREADPOOL_SIZE=1 ${command}`],
    signal ? { signal } : {},
    trace,
  )
}

/** What the last traced command did. */
function traceOf({ container }: Host): string {
  return join(container.root, 'root/trace')
}

/** The root helper reloads sshd only so often, and a test more often than that. */
async function forgetReloads({ container }: Host): Promise<void> {
  await container.sh('rm -f /run/hostcertd-reload/reloads')
}
