// By its parts: the whole of it loads what pushes metrics and gathers them from other processes, 11 MiB.
import Counter from 'prom-client/lib/counter.js'
import Gauge from 'prom-client/lib/gauge.js'
import Histogram from 'prom-client/lib/histogram.js'
import Registry from 'prom-client/lib/registry.js'
import type { ErrorCode } from '../cert/errors.ts'
import { parseTime, type UnixSeconds } from '../cert/time.ts'
import { CERTIFICATE_STATES, type CertificateState } from '../renewal/certificate-state.ts'
import type { Metrics } from '../renewal/ports.ts'
import { servingOf, type CertificateStatus, type StatusDocument } from '../renewal/status-document.ts'

/** From a server next door to the default time-out of an exchange. */
const DURATION_BUCKETS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]

/** A certificate that never expires has no renewal time in these states; in the others its renewal is not "never". */
const SETTLED: readonly CertificateState[] = ['valid', 'unconfirmed']

const KEY_LABELS = ['host_key', 'key_type'] as const
type KeyLabels = (typeof KEY_LABELS)[number]
type KeyValues = Record<KeyLabels, string>

interface BuildInfo {
  readonly version: string
  /** Of Node, without a `v`. */
  readonly node: string
}

/**
 * The metrics of the interface, in a registry of their own. What does not exist has no series: before the first
 * success there is no time of it, and a host key that vanished takes its gauges along (its counters stay).
 */
export class PrometheusMetrics implements Metrics {
  readonly #now: () => UnixSeconds
  readonly #registry = new Registry()
  readonly #certificates = new CertificateSeries(this.#registry)
  readonly #renewals = this.#counter('renewals_total', 'Renewals tried, by result: ok or an error code', [
    'host_key',
    'result',
  ])
  readonly #requests = this.#counter(
    'issuer_requests_total',
    'Requests to the issuer, by HTTP status or error code',
    ['route', 'code'],
  )
  readonly #durations = new Histogram({
    name: 'hostcertd_issuer_request_duration_seconds',
    help: 'How long requests to the issuer took',
    buckets: DURATION_BUCKETS,
    registers: [this.#registry],
  })
  readonly #loginFailures = this.#counter(
    'login_failures_total',
    'Failed logins, by method and error code: the host had no proof of identity (then the issuer was not asked), the issuer refused it, or did not answer',
    ['method', 'code'],
  )
  readonly #reloads = this.#counter('sshd_reloads_total', 'Reloads of sshd, by result: ok or an error code', [
    'result',
  ])
  readonly #lastSuccess = this.#single('last_success_timestamp_seconds', 'When a renewal last succeeded')
  readonly #skew = this.#single('clock_skew_seconds', "The issuer's clock minus ours")
  readonly #login = new Gauge({
    name: 'hostcertd_login_info',
    help: 'Always 1: how this host logs in at the issuer; none where a program takes the place of the issuer',
    labelNames: ['method'],
    registers: [this.#registry],
  })
  readonly #waits = new Gauge({
    name: 'hostcertd_wait_until_timestamp_seconds',
    help: 'What is not tried before this time: the issuer, the login, a host key …',
    labelNames: ['for'],
    registers: [this.#registry],
  })
  readonly #copied = this.#single(
    'machine_copied',
    'Whether this machine is a copy of the one that was enrolled (1) or that machine (0); none where that is not known',
  )
  readonly #turn = this.#single('loop_last_turn_timestamp_seconds', 'When the loop last completed a turn')

  readonly #userCa = this.#single('user_ca_enabled', '1 where user_ca.install is true; absent elsewhere')

  /** @param lastUserCaSuccess read at each scrape: root's timer succeeds, not the daemon */
  constructor(
    build: BuildInfo,
    lastUserCaSuccess: () => Promise<UnixSeconds | null>,
    now: () => UnixSeconds = () => Date.now() / 1000,
  ) {
    this.#now = now
    const userCa: Gauge = new Gauge({
      name: 'hostcertd_user_ca_last_success_timestamp_seconds',
      help: 'When the user CAs were last refreshed; none where they are not kept by hostcertd',
      registers: [this.#registry],
      collect: async (): Promise<void> => setOrRemove(userCa, await lastUserCaSuccess()),
    })
    userCa.remove()
    new Gauge({
      name: 'hostcertd_build_info',
      help: 'Always 1',
      labelNames: ['version', 'node'],
      registers: [this.#registry],
    }).set({ version: build.version, node: build.node }, 1)
  }

  /** For the `Content-Type` of an answer that carries {@link metricsText}. */
  get contentType(): string {
    return this.#registry.contentType
  }

  /** Everything in the Prometheus text format. */
  async metricsText(): Promise<string> {
    return this.#registry.metrics()
  }

  /** @param isInstalled `user_ca.install` */
  userCa(isInstalled: boolean): void {
    setOrRemove(this.#userCa, isInstalled ? 1 : null)
  }

  renewal(hostKey: string, result: 'ok' | ErrorCode): void {
    this.#renewals.inc({ host_key: hostKey, result })
  }

  reload(result: 'ok' | ErrorCode): void {
    this.#reloads.inc({ result })
  }

  issuerRequest(route: 'login' | 'issue' | 'host-ca', code: string, seconds: number): void {
    this.#requests.inc({ route, code })
    this.#durations.observe(seconds)
  }

  loginFailed(method: string, code: ErrorCode): void {
    this.#loginFailures.inc({ method, code })
  }

  turn(at: UnixSeconds): void {
    this.#turn.set(at)
  }

  status(snapshot: StatusDocument): void {
    this.#certificates.replace(snapshot.certificates, this.#now())
    setOrRemove(this.#skew, snapshot.issuer.clock_skew_seconds)
    const { copied } = snapshot.machine
    setOrRemove(this.#copied, copied === null ? null : Number(copied))
    this.#login.reset()
    const { method } = snapshot.login
    if (method !== null) this.#login.set({ method }, 1)
    this.#waits.reset()
    for (const wait of snapshot.waits) this.#waits.set({ for: wait.for }, parseTime(wait.until))
    const successes = snapshot.certificates.flatMap(({ last_success: at }) =>
      at === null ? [] : [parseTime(at)],
    )
    setOrRemove(this.#lastSuccess, successes.length === 0 ? null : Math.max(...successes))
  }

  #counter<T extends string>(name: string, help: string, labelNames: T[]): Counter<T> {
    return new Counter({ name: `hostcertd_${name}`, help, labelNames, registers: [this.#registry] })
  }

  /** prom-client gives a gauge without labels the value 0 at once. */
  #single(name: string, help: string): Gauge {
    const gauge = new Gauge({ name: `hostcertd_${name}`, help, registers: [this.#registry] })
    gauge.remove()
    return gauge
  }
}

/** The gauges that there is one of for each host key. */
class CertificateSeries {
  readonly #registry: Registry
  readonly #notBefore: Gauge<KeyLabels>
  readonly #notAfter: Gauge<KeyLabels>
  readonly #renewal: Gauge<KeyLabels>
  readonly #servedNotAfter: Gauge<KeyLabels>
  readonly #servedMatch: Gauge<KeyLabels>
  readonly #state: Gauge<KeyLabels | 'state'>
  readonly #ca: Gauge<'host_key' | 'ca_fingerprint'>

  constructor(registry: Registry) {
    this.#registry = registry
    this.#notBefore = this.#gauge(
      'certificate_not_before_timestamp_seconds',
      'From when on the certificate on disk is valid',
    )
    this.#notAfter = this.#gauge(
      'certificate_not_after_timestamp_seconds',
      'When the certificate on disk ends; +Inf for one that never does',
    )
    this.#renewal = this.#gauge(
      'certificate_renewal_timestamp_seconds',
      'When the renewal of the certificate on disk is due; +Inf for one that never expires',
    )
    this.#servedNotAfter = this.#gauge(
      'served_certificate_not_after_timestamp_seconds',
      'When the certificate that sshd was last seen to present ends; +Inf for one that never does',
    )
    this.#servedMatch = this.#gauge(
      'served_certificate_match',
      'Whether sshd presents the certificate on disk (1) or another or none (0); none where that is not known, or was seen half an hour ago or longer',
    )
    this.#state = this.#gauge(
      'certificate_state',
      'The state of the host key: 1 for the one it is in',
      'state',
    )
    this.#ca = new Gauge({
      name: 'hostcertd_certificate_ca_info',
      help: 'Always 1: the CA that signed the certificate on disk, as OpenSSH prints its fingerprint',
      labelNames: ['host_key', 'ca_fingerprint'],
      registers: [registry],
    })
  }

  /** Forget all series and make those of these host keys; no scrape comes in between. */
  replace(certificates: readonly CertificateStatus[], now: UnixSeconds): void {
    for (const gauge of [
      this.#notBefore,
      this.#notAfter,
      this.#renewal,
      this.#servedNotAfter,
      this.#servedMatch,
    ])
      gauge.reset()
    this.#state.reset()
    this.#ca.reset()
    const seen = new Set<string>()
    for (const certificate of certificates) {
      const labels = { host_key: certificate.host_key, key_type: certificate.key_type ?? '' }
      // Of two files with one name the later is `ignored`; it must not hide the state of the first.
      const id = certificate.host_key
      if (seen.has(id)) continue
      seen.add(id)
      this.#set(labels, certificate, now)
    }
  }

  #set(labels: KeyValues, certificate: CertificateStatus, now: UnixSeconds): void {
    for (const state of CERTIFICATE_STATES)
      this.#state.set({ ...labels, state }, state === certificate.state ? 1 : 0)
    const notAfter = notAfterOf(certificate)
    setIfKnown(this.#notBefore, labels, secondsOrNull(certificate.valid_after))
    setIfKnown(this.#notAfter, labels, notAfter)
    setIfKnown(this.#renewal, labels, renewalOf(certificate, notAfter))
    const { host_key, ca_fingerprint } = certificate
    if (ca_fingerprint !== null) this.#ca.set({ host_key, ca_fingerprint }, 1)
    const { served } = certificate
    if (served === null || served.matches === null) return
    setIfKnown(this.#servedNotAfter, labels, notAfterOf(served))
    // What was seen long ago to be as it should be may be otherwise now; an alert is built on the difference.
    const evidence = servingOf(served, now)
    if (evidence !== 'served-before') this.#servedMatch.set(labels, evidence === 'served' ? 1 : 0)
  }

  #gauge<T extends string = never>(name: string, help: string, ...more: T[]): Gauge<KeyLabels | T> {
    const labelNames = [...KEY_LABELS, ...more]
    return new Gauge({ name: `hostcertd_${name}`, help, labelNames, registers: [this.#registry] })
  }
}

/** When a certificate ends, on disk or presented: null without one, or when that is not known. */
function notAfterOf({
  serial,
  valid_before,
}: Pick<CertificateStatus, 'serial' | 'valid_before'>): UnixSeconds | null {
  if (valid_before !== null) return parseTime(valid_before)
  return serial === null ? null : Infinity
}

function renewalOf(
  { state, renewal_due }: CertificateStatus,
  notAfter: UnixSeconds | null,
): UnixSeconds | null {
  // Meaningless once expired: the alerts on certificates that expire soon must not fire then.
  if (state === 'expired') return null
  if (renewal_due !== null) return parseTime(renewal_due)
  return notAfter === Infinity && SETTLED.includes(state) ? Infinity : null
}

function setIfKnown(gauge: Gauge<KeyLabels>, labels: KeyValues, value: number | null): void {
  if (value !== null) gauge.set(labels, value)
}

function setOrRemove(gauge: Gauge, value: number | null): void {
  if (value === null) gauge.remove()
  else gauge.set(value)
}

function secondsOrNull(time: string | null): UnixSeconds | null {
  return time === null ? null : parseTime(time)
}
