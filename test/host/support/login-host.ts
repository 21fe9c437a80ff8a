import { deepStrictEqual, match, ok } from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { isDeepStrictEqual } from 'node:util'
import { afterAll, beforeAll } from 'vitest'
import { messageOf } from '../../../agent/cert/errors.ts'
import { HOST_KEY_TYPES } from './client.ts'
import { eventually } from './eventually.ts'
import { bootHost } from './host.ts'
import { type EnrolledHost, install, SERVED_MILLISECONDS, untilServed } from './installed-host.ts'
import type { Accepted, LoginFacts, SeenLogins } from './issuer-messages.ts'
import { HOSTNAME } from './network.ts'
import type { Release } from './releases.ts'
import { copiedCertificates, servedCertificates, stagedCertificates } from './served.ts'
import { readStatus } from './status.ts'

/** The identity of all examples in docs/logins.md. */
const IDENTITY = '2b5dd1f5-7a4f-4b3a-9a0c-6e7e0b9d3c11'
const DOCUMENT = new URL('../../../docs/logins.md', import.meta.url)
const MONTH_SECONDS = 30 * 86_400
/** What the daemon keeps: its waits, for one. */
const RECORD = '/var/lib/hostcertd/attempts.json'

/** What `hostcertd doctor` says of one step. */
interface Finding {
  readonly step: string
  readonly status: string
  readonly message: string
  readonly remedy: string | null
}

/** How a login that fails shows on the host. */
export interface Trouble {
  readonly code: string
  readonly message: RegExp
  /** The message of doctor, where it finds the cause before it logs in. */
  readonly beforeLogin?: RegExp
  readonly remedy: RegExp
}

/** A host with the package that logs in as docs/logins.md says. */
export class LoginHost implements AsyncDisposable {
  readonly host: EnrolledHost
  readonly facts: LoginFacts
  readonly #secrets = new Set<string>()

  constructor(host: EnrolledHost, facts: LoginFacts) {
    this.host = host
    this.facts = facts
  }

  /** What must be found nowhere on the host but where it was put. */
  keepSecret(...texts: readonly string[]): void {
    for (const text of texts) this.#secrets.add(text)
  }

  async accept(accepted: Accepted): Promise<void> {
    await this.host.issuer.ask({ do: 'accept-logins', accepted })
  }

  /** Every login so far. What was a secret in them must be found nowhere from now on. */
  async logins(): Promise<SeenLogins['logins']> {
    const { logins, tokens } = (await this.host.issuer.ask({ do: 'seen-logins' })) as SeenLogins
    this.keepSecret(...tokens)
    for (const { body } of logins) {
      const { jwt, iamRequestHeaders: signed } = body
      if (typeof jwt === 'string') this.keepSecret(jwt, jwt.split('.')[2] ?? '')
      if (typeof signed !== 'string') continue
      const headers = JSON.parse(Buffer.from(signed, 'base64').toString('utf8')) as { Authorization: string }
      this.keepSecret(signed, headers.Authorization.replace(/.*Signature=/, ''))
    }
    return logins
  }

  /** A credential, by the command of docs/logins.md. */
  async writeCredential(name: string, content: string): Promise<void> {
    // `cat`: what the test writes to is a socket, which /dev/stdin does not open.
    const path = `/etc/hostcertd/credentials/${name}`
    await this.host.container.sh(`cat | install -m 0400 /dev/stdin ${path}`, { input: content })
  }

  /**
   * Log in by the example of docs/logins.md from now on, without any certificate to begin with; wait until ssh logs in by
   * new ones.
   *
   * @param lines that the example leaves to the reader
   */
  async logInBy(method: string, lines = ''): Promise<void> {
    const { client, container, hostId, issuer } = this.host
    const auth = await exampleOf(method)
    const configuration = `issuer:
  url: ${this.facts.url}
  ssh_host_id: ${hostId}
  ca_file: /etc/hostcertd/tls-ca.pem
${auth}${lines}verify:
  host_ca_file: /etc/hostcertd/host-ca.pub
  principals: [${HOSTNAME}]
log:
  level: trace
`
    await container.write('/etc/hostcertd/tls-ca.pem', this.facts.tlsCa)
    await container.write('/etc/hostcertd/host-ca.pub', `${issuer.facts.caPublicKey}\n`)
    await container.write('/etc/hostcertd/hostcertd.yaml', configuration)
    // The tests of all methods together lose a certificate more than ten times in ten minutes, and the daemon would wait.
    await container.sh(`
      systemctl stop hostcertd.service
      rm -f /var/lib/hostcertd/certs/* /etc/ssh/hostcertd/*
      if [ -e ${RECORD} ]; then
        sed -Ez 's/("repairs": *)\\[[^]]*\\]/\\1[]/g' ${RECORD} >/root/record
        cat /root/record >${RECORD}
      fi
      systemctl start hostcertd.service`)
    // Word for word; the restart has ended no wait after a refused login.
    match(await container.sh('hostcertd config validate && systemctl reload hostcertd'), /\bvalid\b/)
    await untilServed(this.host)
    deepStrictEqual(await client.verifyAll(), [])
  }

  /** The daemon logs in once more by itself, has a certificate issued anew, and sshd serves it. */
  async renewByDaemon(): Promise<void> {
    const { issuer } = this.host
    const before = (await this.logins()).length
    const signed = Number(await issuer.ask({ do: 'count' }))
    await this.#makeDue()
    await this.#withJournal(
      eventually(
        'a certificate is issued anew',
        SERVED_MILLISECONDS,
        async () => Number(await issuer.ask({ do: 'count' })) > signed,
      ),
    )
    // The daemon's own status may still be the one of before; the files cost nothing to read, unlike logins.
    await eventually('what was issued is served', SERVED_MILLISECONDS, async () => {
      const staged = await stagedCertificates(this.host)
      return (
        staged.length === HOST_KEY_TYPES.length &&
        isDeepStrictEqual(staged, await copiedCertificates(this.host)) &&
        isDeepStrictEqual(staged, await servedCertificates(this.host))
      )
    })
    const since = (await this.logins()).slice(before)
    deepStrictEqual(
      since.map(({ refusal }) => refusal),
      [null],
    )
  }

  /** What `hostcertd doctor` says of the login, which is what matters of its steps here. */
  async diagnose(): Promise<readonly Finding[]> {
    const { stdout } = await this.host.container.try(['hostcertd', 'doctor', '--json'])
    const findings = JSON.parse(stdout) as readonly Finding[]
    return findings.filter(({ step }) => step === 'credentials' || step === 'login')
  }

  /** The daemon's login fails: status and doctor say it, and sshd serves what it served. */
  async expectTrouble({ code, message, beforeLogin, remedy }: Trouble): Promise<void> {
    const { container } = this.host
    const before = await servedCertificates(this.host)
    await this.#makeDue()
    await eventually('status shows the error', SERVED_MILLISECONDS, async () => {
      const { certificates } = await readStatus(container)
      return certificates.some(({ last_error: error }) => error?.code === code && message.test(error.message))
    })
    const texts = (await container.run(['hostcertd', 'status'])).replaceAll(/\s+/g, ' ')
    ok(texts.includes(code), texts)
    const step = beforeLogin === undefined ? 'login' : 'credentials'
    const finding = (await this.diagnose()).find(({ status }) => status === 'failure')
    deepStrictEqual(finding?.step, step)
    match(finding.message, beforeLogin ?? message)
    if (beforeLogin === undefined) ok(finding.message.includes(code), finding.message)
    match(finding.remedy ?? '', remedy)
    deepStrictEqual(await servedCertificates(this.host), before)
  }

  /** @throws with what the daemon and its exchange last said, when it is not so */
  async #withJournal(waiting: Promise<unknown>): Promise<void> {
    await waiting.catch(async (cause: unknown) => {
      const units = ['--unit=hostcertd.service', '--unit=hostcertd-exchange@*']
      const lines = ['journalctl', '--boot', '--no-pager', '--lines=60', '--output=short-iso', ...units]
      throw new Error(`${messageOf(cause)}\n${await this.host.container.run(lines)}`, { cause })
    })
  }

  /** One certificate that the daemon has verified is lost, and it looks at once; sshd keeps its copy. */
  async #makeDue(): Promise<void> {
    await this.host.container.sh(`
      rm -f /var/lib/hostcertd/certs/ssh_host_ed25519_key-cert.pub
      systemctl reload hostcertd.service`)
  }

  /** No secret is in the journal at level `trace`, in what the daemon keeps, or in what it tells. */
  async expectNoSecrets(): Promise<void> {
    const { container } = this.host
    await this.logins()
    const told = await container.sh(`
      journalctl --boot --no-pager --all --output=verbose
      cat /var/lib/hostcertd/* 2>/dev/null || :
      hostcertd status --json
      hostcertd doctor --json || :
      /usr/lib/hostcertd/bin/node -e "fetch('http://127.0.0.1:9847/metrics').then((r) => r.text()).then(console.log)"
      cat /proc/$(systemctl show --value --property=MainPID hostcertd.service)/environ`)
    match(told, /hostcertd_login_info/)
    ok(this.#secrets.size > 1)
    const found = [...this.#secrets].filter((secret) => secret === '' || told.includes(secret))
    deepStrictEqual(found, [])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.host[Symbol.asyncDispose]()
  }
}

/** One host for all tests of a `describe`. @param clientCa PEM; see {@link LoginFacts} */
export function sharedLoginHost(release: Release, clientCa: string): () => LoginHost {
  let shared: LoginHost | null = null
  beforeAll(async () => {
    const host = await bootHost(release)
    try {
      await install(host, 'deb')
      const registered = { do: 'add-host', hostname: HOSTNAME, ttlSeconds: MONTH_SECONDS } as const
      const hostId = String(await host.issuer.ask(registered))
      const open = { do: 'open-logins', identityId: IDENTITY, clientCa } as const
      shared = new LoginHost({ ...host, hostId }, (await host.issuer.ask(open)) as LoginFacts)
    } catch (error) {
      await host[Symbol.asyncDispose]()
      throw error
    }
  })
  afterAll(async () => {
    await shared?.[Symbol.asyncDispose]()
  })
  return () => {
    if (shared === null) throw new Error('the host is not booted yet: ask for it in a test')
    return shared
  }
}

/** The section `auth` that docs/logins.md shows for a method, to the letter. */
async function exampleOf(method: string): Promise<string> {
  const document = await readFile(DOCUMENT, 'utf8')
  const section = document.split(/^## /m).find((text) => text.startsWith(`${method}\n`)) ?? ''
  const example = /^```yaml\n(auth:\n.*?)^```/ms.exec(section)?.[1]
  if (example === undefined) throw new Error(`docs/logins.md has no example for ${method}`)
  return example
}
