import { createHash } from 'node:crypto'
import { expect, test } from 'vitest'
import { ERRORS } from '../../agent/cert/errors.ts'
import { formatTime } from '../../agent/cert/time.ts'
import { html, prose } from '../../agent/health/page/html.ts'
import type { CertificateState } from '../../agent/renewal/certificate-state.ts'
import type { ServedStatus } from '../../agent/renewal/status-document.ts'
import { ask, certificate, servedAs, started, statusOf } from '../support/health-server.ts'

const NOW = 1_795_438_800

/** So many minutes from now; negative before. */
function minutesOff(minutes: number): string | null {
  return formatTime(NOW + minutes * 60)
}

function sha256(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`
}

test('the page may run its one script and use its one style sheet, and nothing else', async () => {
  const { port } = await started()
  const { headers, body } = await ask({ port }, '/')
  const scripts = [...body.matchAll(/<script[^>]*>([^]*?)<\/script>/g)].map(([, text]) => text ?? '')
  const styles = [...body.matchAll(/<style[^>]*>([^]*?)<\/style>/g)].map(([, text]) => text ?? '')
  expect([scripts.length, styles.length]).toEqual([1, 1])
  const policy = String(headers['content-security-policy']).split('; ')
  expect(policy).toContain("default-src 'none'")
  expect(policy).toContain(`script-src ${sha256(scripts[0] ?? '')}`)
  expect(policy).toContain(`style-src ${sha256(styles[0] ?? '')}`)
  expect(policy).toContain("frame-ancestors 'none'")
  expect(policy.join(' ')).not.toMatch(/unsafe|\*|http/)
  expect(headers['referrer-policy']).toBe('no-referrer')
  expect(headers['cache-control']).toBe('no-store')
})

test('the page names no other server, and has neither inline styles nor handlers', async () => {
  const { port } = await started({ sources: { status: () => statusOf([certificate('a', 'expired', 3)]) } })
  const { body } = await ask({ port }, '/')
  const markup = body.replace(/<(style|script)>[^]*?<\/\1>/g, '')
  expect(markup).not.toMatch(/(?:src|href|action)="(?!data:|status"|readyz"|metrics")/)
  expect(markup).not.toMatch(/\s(?:style|on\w+)=/)
})

test.each([
  { name: 'before the first look', status: null, live: true, want: 'Starting' },
  { name: 'not enrolled', status: statusOf([], false), live: true, want: 'Not enrolled' },
  { name: 'all valid', status: statusOf([certificate('a', 'valid')]), live: true, want: 'All well' },
  { name: 'one due', status: statusOf([certificate('a', 'due')]), live: true, want: 'A renewal is due' },
  {
    name: 'due and failing',
    status: statusOf([certificate('a', 'due', 2)]),
    live: true,
    want: 'Renewal is failing',
  },
  {
    name: 'overdue',
    status: statusOf([certificate('a', 'overdue'), certificate('b', 'overdue')]),
    live: true,
    want: '2 renewals overdue',
  },
  {
    name: 'the gravest first',
    status: statusOf([certificate('a', 'unconfirmed'), certificate('b', 'expired')]),
    live: true,
    want: '1 certificate expired',
  },
  {
    name: 'ignored keys only',
    status: statusOf([certificate('a', 'ignored')]),
    live: true,
    want: 'Nothing to certify',
  },
  {
    name: 'the loop hangs',
    status: statusOf([certificate('a', 'valid')]),
    live: false,
    want: 'hostcertd is stuck',
  },
  {
    name: 'the clock is off',
    status: {
      ...statusOf([certificate('a', 'valid')]),
      issuer: { url: null, reachable: true, last_success: null, clock_skew_seconds: -75 },
    },
    live: true,
    want: 'The clock is off',
  },
  {
    name: 'copied',
    status: { ...statusOf([certificate('a', 'valid')]), machine: { copied: true } },
    live: true,
    want: 'This machine was copied',
  },
  {
    name: 'copied, and stopped',
    status: { ...statusOf([certificate('a', 'valid')], false), machine: { copied: true } },
    live: true,
    want: 'Not enrolled',
  },
])('the page says how the host stands: $name', async ({ status, live, want }) => {
  const sources = { status: () => status, live: () => ({ ok: live, lastTurn: NOW }), now: () => NOW }
  const { port } = await started({ sources })
  const { body } = await ask({ port }, '/')
  expect(/<strong>(.*?)<\/strong>/.exec(body)?.[1]).toBe(want)
})

test.each([
  { name: 'all valid', states: ['valid', 'valid'] },
  { name: 'due and failing', states: ['due'], failures: 2 },
  { name: 'expired', states: ['expired'] },
  { name: 'the loop hangs', states: ['valid'], live: false },
] as const)('what a screen reader reads out does not change with the time: $name', async (look) => {
  const { states, failures = 0, live = true } = { failures: undefined, live: undefined, ...look }
  const times = {
    valid_after: formatTime(NOW - 3600),
    valid_before: formatTime(NOW + 3600),
    renewal_due: formatTime(NOW + 1800),
  }
  const certificates = states.map((state) => Object.assign(certificate('a', state, failures), times))
  let now = NOW
  const { port } = await started({
    sources: {
      status: () => statusOf(certificates),
      live: () => ({ ok: live, lastTurn: NOW }),
      now: () => now,
    },
  })
  const readOut: (string | undefined)[] = []
  for (; now <= NOW + 15; now += 5) {
    const { body } = await ask({ port }, '/')
    readOut.push(/<div id="verdict" role="status"[^]*?<\/div>/.exec(body)?.[0])
  }
  expect(readOut[0]).toContain('<strong>')
  expect(new Set(readOut).size).toBe(1)
})

test.each<{
  state: CertificateState
  served: Partial<ServedStatus> | null
  row: string
  pill: string
  verdict?: string
}>([
  { state: 'valid', served: { serial: '1', matches: true }, row: 'good this certificate', pill: 'good' },
  {
    state: 'valid',
    served: { serial: '1', matches: true, checked_at: minutesOff(-29), unknown: 'reset' },
    row: 'good this certificate',
    pill: 'good',
  },
  {
    state: 'valid',
    served: { serial: '1', matches: true, checked_at: minutesOff(-90) },
    row: 'warn this certificate, as last seen 1h 30m ago',
    pill: 'good',
    verdict: 'warn',
  },
  {
    state: 'valid',
    served: { serial: '1', matches: true, checked_at: minutesOff(90) },
    row: 'warn this certificate, as last seen an unknown time ago',
    pill: 'good',
    verdict: 'warn',
  },
  {
    state: 'expired',
    served: { serial: '1', matches: true },
    row: 'bad this certificate, expired',
    pill: 'bad',
  },
  { state: 'invalid', served: { serial: '1', matches: true }, row: 'bad this certificate', pill: 'bad' },
  {
    state: 'unconfirmed',
    served: { serial: '2', matches: false },
    row: 'warn another certificate',
    pill: 'warn',
  },
  { state: 'unconfirmed', served: { matches: false }, row: 'bad no usable certificate', pill: 'bad' },
  { state: 'overdue', served: { matches: false }, row: 'bad no usable certificate', pill: 'bad' },
  { state: 'absent', served: { matches: false }, row: 'bad no usable certificate', pill: 'bad' },
  {
    state: 'unconfirmed',
    served: { checked_at: null, unknown: 'reset' },
    row: 'warn not known',
    pill: 'warn',
  },
  // Whatever the state says: all is well only where that was seen.
  { state: 'valid', served: { checked_at: null }, row: 'warn not known', pill: 'good', verdict: 'warn' },
  { state: 'valid', served: null, row: 'idle not asked', pill: 'good' },
])('what sshd presents, $state: $row', async ({ state, served, row, pill, verdict = pill }) => {
  const seen = served === null ? null : servedAs({ checked_at: minutesOff(0), ...served })
  const sources = { status: () => statusOf([{ ...certificate('a', state), served: seen }]), now: () => NOW }
  const { port } = await started({ sources })
  const { body } = await ask({ port }, '/')
  const [, tone, words] = /class="mark tone-(\w+)"><svg[^]*?<\/svg><span>(.*?)<\/span>/.exec(body) ?? []
  expect(`${tone} ${words}`).toBe(row)
  expect(/class="pill tone-(\w+)"/.exec(body)?.[1]).toBe(pill)
  expect(/class="verdict tone-(\w+)"/.exec(body)?.[1]).toBe(verdict)
})

test('why the last question brought no answer is told once for all host keys of which that is so', async () => {
  const served = servedAs({ serial: '1', matches: true, checked_at: minutesOff(-1) })
  const keys = ['a', 'b', 'c'].map((name) =>
    Object.assign(certificate(name, 'valid'), {
      served: { ...served, unknown: name === 'c' ? null : '<reset>' },
    }),
  )
  const answers = async (): Promise<string[] | null> => {
    const { port } = await started({ sources: { status: () => statusOf(keys), now: () => NOW } })
    return (await ask({ port }, '/')).body.match(/sshd could not be checked[^<]*/g)
  }
  expect(await answers()).toEqual(['sshd could not be checked for a, b: &lt;reset&gt;'])
  for (const key of keys) key.served = { ...served, unknown: 'reset' }
  expect(await answers()).toEqual(['sshd could not be checked: reset'])
  for (const key of keys) key.served = served
  expect(await answers()).toBeNull()
})

test.each([
  { name: 'all was served a moment ago', checked: -1, state: 'valid', want: 'warn sshd is down' },
  { name: 'all was served long ago', checked: -90, state: 'valid', want: 'warn sshd is down' },
  { name: 'something is worse', checked: -1, state: 'expired', want: 'bad 1 certificate expired' },
] as const)('sshd is down, and $name: since when, and what to do', async ({ checked, state, want }) => {
  const served = servedAs({ serial: '1', matches: true, checked_at: minutesOff(checked) })
  const status = {
    ...statusOf([{ ...certificate('a', state), served }]),
    sshd: { state: 'down', since: '2026-11-23T11:55:00Z' } as const,
  }
  const { port } = await started({ sources: { status: () => status, now: () => NOW } })
  const { body } = await ask({ port }, '/')
  const [, tone, title] = /class="verdict tone-(\w+)"[^]*?<strong>(.*?)<\/strong>/.exec(body) ?? []
  expect(`${tone} ${title}`).toBe(want)
  expect(/id="verdict"[^]*?<\/div>/.exec(body)?.[0]).toContain(' is down')
  expect(body).toMatch(/<h3>sshd is down<\/h3>[^]*?Since <time[^>]*>23 Nov 2026, 11:55<\/time> UTC/)
  expect(body).toContain('<code>systemctl start ssh</code>')
  // What was seen a minute ago is no more so.
  expect(body).toMatch(/<span>this certificate, as last seen .* ago<\/span>/)
})

test('evidence that is old is told, whatever else is well', async () => {
  const served = servedAs({ serial: '1', matches: true, checked_at: minutesOff(-90) })
  const status = statusOf([{ ...certificate('a', 'valid'), served }])
  const { port } = await started({ sources: { status: () => status, now: () => NOW } })
  const { body } = await ask({ port }, '/')
  expect(/<strong>(.*?)<\/strong>/.exec(body)?.[1]).toBe('sshd could not be checked')
})

test('what the root helper reported is shown, also where no host key counts', async () => {
  const notes = ['left out ssh_host_rsa_key: its public half is empty', '<b>']
  for (const keys of [[certificate('a', 'ignored')], [certificate('a', 'valid')]]) {
    const { port } = await started({ sources: { status: () => ({ ...statusOf(keys), notes }) } })
    const { body } = await ask({ port }, '/')
    expect(body).toContain('<h3>Reported by the root helper</h3>')
    expect(body).toContain('<li>left out ssh_host_rsa_key: its public half is empty</li>')
    expect(body).toContain('<li>&lt;b&gt;</li>')
  }
})

test('an ignored host key is shown with its certificate, which is renewed all the same', async () => {
  const ignored = { ...certificate('a', 'ignored'), reason: 'sshd does not offer it' }
  const without = { ...ignored, host_key: 'b', serial: null }
  const { port } = await started({ sources: { status: () => statusOf([ignored, without]) } })
  const { body } = await ask({ port }, '/')
  expect(body.match(/<p>Ignored: sshd does not offer it\.<\/p>/g)).toHaveLength(2)
  expect(body.match(/class="more"/g)).toHaveLength(1)
  expect(body).not.toContain('There is no certificate')
})

test('no certificate at all is graver than another one, or one that is late', async () => {
  const served = servedAs({ matches: false, checked_at: '2026-11-23T13:00:00Z' })
  const bare = { ...certificate('a', 'unconfirmed'), served }
  const others = [certificate('b', 'unconfirmed'), certificate('c', 'overdue'), certificate('d', 'invalid')]
  const { port } = await started({ sources: { status: () => statusOf([...others, bare]), now: () => NOW } })
  const { body } = await ask({ port }, '/')
  expect(body).toContain('<strong>1 certificate not served</strong>')
  expect(body).toContain('but sshd presents no usable certificate. Clients')
})

test('ignored keys have no next renewal', async () => {
  const ignored = { ...certificate('a', 'ignored'), renewal_due: formatTime(NOW + 60) }
  const valid = { ...certificate('b', 'valid'), renewal_due: formatTime(NOW + 86_400) }
  const { port } = await started({ sources: { status: () => statusOf([ignored, valid]), now: () => NOW } })
  const { body } = await ask({ port }, '/')
  expect(body).toContain('1 certificate valid; next renewal 24 Nov 2026, 13:00 UTC.')
})

test.each([
  { name: 'half-way', from: -50, to: 50, due: 20, want: ['width="50%"', '50 per cent', 'x="70%"'] },
  { name: 'over', from: -100, to: -10, due: -30, want: ['width="100%"', 'it is over', 'now, past the end'] },
  { name: 'not begun', from: 10, to: 100, due: 70, want: ['width="0%"'] },
  { name: 'forever', from: -50, to: null, due: null, want: ['never expires'] },
  { name: 'of no length', from: 0, to: 0, due: null, want: ['it is over'] },
])('the lifetime bar: $name', async ({ from, to, due, want }) => {
  const at = (seconds: number | null): string | null =>
    seconds === null ? null : formatTime(NOW + seconds * 86_400)
  const shown = {
    ...certificate('a', 'valid'),
    valid_after: at(from),
    valid_before: at(to),
    renewal_due: at(due),
  }
  const { port } = await started({ sources: { status: () => statusOf([shown]), now: () => NOW } })
  const { body } = await ask({ port }, '/')
  for (const text of want) expect(body).toContain(text)
  expect(body).not.toMatch(/NaN|Infinity|undefined/)
})

test('an end after the year 9999 has its place and its date like any other', async () => {
  const HUNDRED_CENTURIES = 10_000 * 31_556_952
  const shown = {
    ...certificate('a', 'valid'),
    valid_after: formatTime(NOW - HUNDRED_CENTURIES / 10),
    valid_before: formatTime(NOW + (HUNDRED_CENTURIES * 9) / 10),
    renewal_due: formatTime(NOW + HUNDRED_CENTURIES / 2),
  }
  const { port } = await started({ sources: { status: () => statusOf([shown]), now: () => NOW } })
  const { body } = await ask({ port }, '/')
  for (const text of ['x="60%"', '10 per cent', 'in 9000 years', ' 11026', 'in 5000 years'])
    expect(body).toContain(text)
  expect(body).not.toMatch(/NaN|Infinity|undefined|forever|>\+/)
})

test('the same error of several host keys is told once, with its remedy', async () => {
  const error = { code: 'ISSUER_TIMEOUT', message: 'no answer', at: '2026-11-23T13:00:00Z' } as const
  const failing = { ...certificate('a', 'due', 2), last_error: error, reason: error.code }
  const { port } = await started({
    sources: { status: () => statusOf([failing, { ...failing, host_key: 'b' }]) },
  })
  const { body } = await ask({ port }, '/')
  expect(body.match(/class="card problem tone-bad"/g)).toHaveLength(1)
  expect(body).toContain('2 host keys')
  const { title, cause } = ERRORS.ISSUER_TIMEOUT
  expect(body).toMatch(new RegExp(`<h3>\\s*${title} <code>ISSUER_TIMEOUT</code`))
  expect(body).toContain(cause.replace('`issuer.timeout`', '<code>issuer.timeout</code>'))
  expect(body).toContain('<dd>Check the log of the issuer, and of any proxy')
})

test.each([
  { state: 'valid', skew: -75, words: '1m 15s behind ours' },
  { state: 'expired', skew: 3661, words: '1h 1m ahead of ours' },
] as const)('clocks that differ have a sign and a remedy, whatever else there is: $state', async (look) => {
  const status = statusOf([certificate('a', look.state)])
  const issuer = { ...status.issuer, reachable: true, clock_skew_seconds: look.skew }
  const { port } = await started({ sources: { status: () => ({ ...status, issuer }), now: () => NOW } })
  const { body } = await ask({ port }, '/')
  expect(body).toMatch(
    new RegExp(`<dt>Clock</dt>\\s*<dd><span class="mark tone-warn"><svg[^]*?${look.words}</span>`),
  )
  expect(body).toMatch(
    /class="card problem tone-warn">\s*<h3>The clocks differ<\/h3>[^]*?<code>timedatectl set-ntp true<\/code>/,
  )
})

test('a copy says that two machines renew for one host', async () => {
  const copied = { ...statusOf([certificate('a', 'valid')]), machine: { copied: true } }
  const { port } = await started({ sources: { status: () => copied, now: () => NOW } })
  const { body } = await ask({ port }, '/')
  expect(body).toContain('This is a copy of the enrolled machine; both renew certificates for the same host')
})

test('an event says after how long the next attempt follows', async () => {
  const none = { hostKeys: [], code: null, serial: null, requestId: null }
  const event = {
    ...none,
    at: '2026-11-23T13:00:00Z',
    level: 'error' as const,
    message: 'no',
    retryInSeconds: 300,
  }
  const { port } = await started({
    sources: { status: () => statusOf([certificate('a', 'due', 1)]), recentEvents: () => [event] },
  })
  expect((await ask({ port }, '/')).body).toContain('<p class="quiet">next attempt after 5m</p>')
})

test('a name with upper-case letters is a problem, once', async () => {
  const of = (name: string) => {
    const one = { ...certificate('a', 'valid'), principals: [name] }
    return statusOf([one, { ...one, host_key: 'b' }])
  }
  const bodyOf = async (name: string): Promise<string> => {
    const { port } = await started({ sources: { status: () => of(name) } })
    return (await ask({ port }, '/')).body
  }
  const title = '<h3>Host name with upper-case letters</h3>'
  expect((await bodyOf('WEB1.example.com')).split(title)).toHaveLength(2)
  expect(await bodyOf('web1.example.com')).not.toContain(title)
})

test.each(['aws', null])('how the host logs in, with method %s', async (method) => {
  const status = { ...statusOf([certificate('a', 'valid')]), login: { method } }
  const { port } = await started({ sources: { status: () => status } })
  const { body } = await ask({ port }, '/')
  const shown = /<dt>Login<\/dt>\s*<dd class="name">(.*)<\/dd>/.exec(body)?.[1] ?? null
  expect(shown).toBe(method)
})

test('clocks that agree, or were not compared, are no problem', async () => {
  for (const [skew, words] of [
    [60, 'agrees with ours'],
    [null, 'not compared lately'],
  ] as const) {
    const issuer = { ...statusOf([]).issuer, clock_skew_seconds: skew }
    const status = { ...statusOf([certificate('a', 'valid')]), issuer }
    const { port } = await started({ sources: { status: () => status } })
    const { body } = await ask({ port }, '/')
    expect(body).toContain(`<dd>${words}</dd>`)
    expect(body).not.toContain('class="card problem')
  }
})

test('what is put into a template is text', () => {
  expect(html`<b title="${`"'<>&`}">${'<i>'}${null}${[html`<br />`]}${5}</b>`.text).toBe(
    '<b title="&quot;&#39;&lt;&gt;&amp;">&lt;i&gt;<br />5</b>',
  )
  expect(html`${'a\u0000\u202E\u{E0001}b'}`.text).toBe(String.raw`a\u{0}\u{202e}\u{e0001}b`)
  expect(html`${prose('run `a <b>` now')}`.text).toBe('run <code>a &lt;b&gt;</code> now')
})

test.each([true, false])(
  'a copied machine, enrolled: %s: cause, remedy and certificates',
  async (enrolled) => {
    const last_error = enrolled
      ? null
      : { code: 'MACHINE_COPIED' as const, message: 'copied', at: '2026-11-23T13:00:00Z' }
    const status = {
      ...statusOf([{ ...certificate('a', 'valid'), last_error }], enrolled),
      machine: { copied: true },
    }
    const { port } = await started({ sources: { status: () => status, now: () => NOW } })
    const { body } = await ask({ port }, '/')
    expect(body.match(/Machine copied <code>MACHINE_COPIED<\/code>/g)).toHaveLength(1)
    expect(body).toContain('hostcertd enroll --yes')
    expect(body).toContain('id="certificates-title"')
    expect(body).toContain('id="issuer-title"')
  },
)
