import { execFile, spawn } from 'node:child_process'
import { chmod, chown, mkdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { parseCaKeys, type PublicKey } from '../../agent/cert/public-key.ts'
import type { CaRefreshTools } from '../../agent/enroll/ca-refresh.ts'
import { lastUserCaSuccess } from '../../agent/host/user-ca-status.ts'
import { createExchangeClient } from '../../agent/issuer/exchange-client.ts'
import type { IssuerFailure } from '../../agent/renewal/ports.ts'
import { type Fault, startLocalIssuer } from '../support/local-issuer.ts'
import { needsRoot } from '../support/skip.ts'
import { signCertificate } from '../support/ssh-keygen.ts'
import { DAY, makeUserCaHost } from './user-ca-host.ts'

const MAIN = fileURLToPath(new URL('../../agent/main.ts', import.meta.url))
const run = promisify(execFile)

function keyIn(line: string): PublicKey {
  return parseCaKeys(line)[0] as PublicKey
}

function failure(next: IssuerFailure['next']): IssuerFailure {
  return {
    code: 'ISSUER_UNREACHABLE',
    message: 'cannot reach it',
    next,
    retryAfterSeconds: null,
    requestId: null,
  }
}

/**
 * @param user a public key line; null: the issuer cannot be reached
 * @param skew the issuer's clock minus ours; null: it did not say
 */
function naming(
  user: string | null,
  host: readonly string[] = [],
  skew: number | null = user === null ? null : 0,
): CaRefreshTools['source'] {
  return {
    health: () => ({ reachable: null, lastSuccess: null, clockSkewSeconds: skew }),
    userCa: async () =>
      user === null
        ? { kind: 'failed', failure: failure('issuer-backoff') }
        : { kind: 'user-ca', key: keyIn(user) },
    hostCa: async () =>
      host.length === 0
        ? { ok: false, failure: failure('administrator'), noSuchRoute: false }
        : { ok: true, keys: host.map(keyIn) },
  }
}

describe('logins by user certificates, with a real sshd', () => {
  test('of a new CA after one run; of the one before until the overlap is over', async () => {
    await using host = await makeUserCaHost()
    const [one, two] = [await host.makeCa('one'), await host.makeCa('two')]
    expect(await host.logsIn('one')).toBe(false)

    expect(await host.refresh(naming(one))).toBe(true)
    expect(await host.keys()).toEqual([one])
    expect(await host.logsIn('one')).toBe(true)
    expect(await host.sshd.reloadCount()).toBe(1)

    await host.clock.advance(DAY)
    expect(await host.refresh(naming(two))).toBe(true)
    expect(await host.keys()).toEqual([one, two])
    expect([await host.logsIn('one'), await host.logsIn('two')]).toEqual([true, true])

    await host.clock.advance(14 * DAY - 1)
    await host.refresh(naming(two))
    expect(await host.logsIn('one')).toBe(true)
    await host.clock.advance(1)
    await host.refresh(naming(two))
    expect(await host.keys()).toEqual([two])
    expect([await host.logsIn('one'), await host.logsIn('two')]).toEqual([false, true])
    // sshd reads the file anew at each login.
    expect(await host.sshd.reloadCount()).toBe(1)
    expect(host.log.messages('info').filter((line) => line.includes('longer'))).toEqual([
      `sshd no longer accepts user certificates of the CA ${keyIn(one).fingerprint}`,
    ])
  })

  test('a revoked CA goes at the next run, also while the issuer cannot be reached', async () => {
    await using host = await makeUserCaHost()
    const [one, two] = [await host.makeCa('one'), await host.makeCa('two')]
    await host.refresh(naming(one))
    await host.refresh(naming(two))
    expect(await host.logsIn('one')).toBe(true)
    const revoked = [keyIn(one).fingerprint]
    expect(await host.refresh(naming(null), { revoked })).toBe(false)
    expect([await host.logsIn('one'), await host.logsIn('two')]).toEqual([false, true])

    // The last one, too: then sshd accepts none, and the drop-in keeps another line from being used instead.
    await host.refresh(naming(null), { revoked: [...revoked, keyIn(two).fingerprint] })
    expect(await host.keys()).toEqual([])
    expect(await host.logsIn('two')).toBe(false)
    expect((await stat(host.places.dropIn)).isFile()).toBe(true)
    expect(host.log.messages('warn')).toContain('every user CA is revoked: sshd accepts no user certificate')
  })

  test('pins: another CA is an error, and changes nothing', async () => {
    await using host = await makeUserCaHost()
    const [one, two] = [await host.makeCa('one'), await host.makeCa('two')]
    const fingerprints = [keyIn(one).fingerprint]
    await host.refresh(naming(one), { fingerprints })
    expect(await host.refresh(naming(two), { fingerprints })).toBe(false)
    expect(await host.keys()).toEqual([one])
    expect(await host.logsIn('two')).toBe(false)
    expect(host.log.lines.filter(({ level }) => level === 'error')).toMatchObject([
      { fields: { code: 'USER_CA_INVALID' }, message: expect.stringContaining(keyIn(two).fingerprint) },
    ])
    expect(await host.status()).toMatchObject({ error: { code: 'USER_CA_INVALID' } })
  })
})

test('what the configuration revokes, and a drop-in that is gone, need no answer', async () => {
  await using host = await makeUserCaHost()
  const [one, two] = [await host.makeCa('one'), await host.makeCa('two')]
  await host.refresh(naming(one))
  await host.refresh(naming(two))
  await rm(host.places.dropIn)
  expect(await host.refresh(naming(null), { revoked: [keyIn(one).fingerprint] })).toBe(false)
  expect([await host.logsIn('one'), await host.logsIn('two')]).toEqual([false, true])
  expect((await stat(host.places.dropIn)).isFile()).toBe(true)
})

describe('an issuer that says "later"', () => {
  /** @param times at how many questions about each CA it says so */
  function saying(
    seconds: number,
    times: number,
    one: string,
  ): { readonly source: CaRefreshTools['source']; asked: string[] } {
    const asked: string[] = []
    const source = naming(one, [one])
    const later = { ...failure('issuer-backoff'), code: 'ISSUER_BUSY', retryAfterSeconds: seconds } as const
    const isLater = (what: string): boolean => {
      asked.push(what)
      return asked.filter((other) => other === what).length <= times
    }
    return {
      asked,
      source: {
        ...source,
        userCa: async (...question) =>
          isLater('user') ? { kind: 'failed', failure: later } : source.userCa(...question),
        hostCa: async (...question) =>
          isLater('host') ? { ok: false, failure: later, noSuchRoute: false } : source.hostCa(...question),
      },
    }
  }
  async function hostWithCa() {
    const host = await makeUserCaHost()
    const one = await host.makeCa('one')
    const hostCaFile = join(host.folder, 'host-ca.pub')
    await writeFile(hostCaFile, `${one}\n`)
    return { host, one, hostCaFile }
  }

  test('is asked again then by the timer, about the user CA and the host CA', async () => {
    const { host, one, hostCaFile } = await hostWithCa()
    await using _ = host
    const { source, asked } = saying(54, 1, one)
    const refreshed = host.refresh(source, { hostCaFile, isByTimer: true })
    await expect.poll(() => host.clock.sleeping).toBe(1)
    await host.clock.advance(53)
    expect(asked).toEqual(['user'])
    await host.clock.advance(1)
    await expect.poll(() => host.clock.sleeping).toBe(1)
    await host.clock.advance(54)
    expect(await refreshed).toBe(true)
    expect(asked).toEqual(['user', 'user', 'host', 'host'])
    expect(await host.keys()).toEqual([one])
  })

  test.each([
    { name: '--now', seconds: 1, isByTimer: false },
    { name: 'the timer, of a time that is too far off', seconds: 121, isByTimer: true },
  ])('is not waited for: $name', async ({ seconds, isByTimer }) => {
    const { host, one, hostCaFile } = await hostWithCa()
    await using _ = host
    const { source, asked } = saying(seconds, 1, one)
    expect(await host.refresh(source, { hostCaFile, isByTimer })).toBe(false)
    expect(asked).toEqual(['user', 'host'])
    expect(await host.status()).toMatchObject({ error: { code: 'ISSUER_BUSY' } })
  })

  test('again and again is waited for two minutes in all', async () => {
    const { host, one, hostCaFile } = await hostWithCa()
    await using _ = host
    const { source, asked } = saying(50, 9, one)
    const refreshed = host.refresh(source, { hostCaFile, isByTimer: true })
    for (let turn = 0; turn < 2; turn += 1) {
      await expect.poll(() => host.clock.sleeping).toBe(1)
      await host.clock.advance(50)
    }
    expect(await refreshed).toBe(false)
    expect(asked).toEqual(['user', 'user', 'user', 'host'])
  })
})

describe('an overlap, and a clock that is wrong', () => {
  test.each([
    { name: 'behind the issuer', days: -400, skew: 400 * DAY },
    { name: 'ahead of it', days: 400, skew: -400 * DAY },
    { name: 'not compared', days: 400, skew: null },
  ])('neither begins nor ends it: $name', async ({ days, skew }) => {
    await using host = await makeUserCaHost()
    const [one, two] = [await host.makeCa('one'), await host.makeCa('two')]
    await host.refresh(naming(one))

    await host.clock.advance(days * DAY)
    expect(await host.refresh(naming(two, [], skew))).toBe(true)
    expect(await host.status()).toMatchObject({ cas: [{ unnamed_since: null }, { unnamed_since: null }] })
    expect(host.log.messages('warn')).toEqual([expect.stringContaining('no overlap of a user CA begins')])
    await host.clock.advance(-days * DAY)
    await host.refresh(naming(two))
    expect(await host.status()).toMatchObject({
      cas: [{ unnamed_since: new Date(host.clock.now() * 1000).toISOString().replace('.000Z', 'Z') }, {}],
    })

    await host.clock.advance(days * DAY)
    await host.refresh(naming(two, [], skew))
    expect(await host.keys()).toEqual([one, two])
    await host.clock.advance((14 - days) * DAY)
    await host.refresh(naming(two))
    expect(await host.keys()).toEqual([two])
  })

  test('also while the issuer refuses, by the date of its refusal', async () => {
    await using host = await makeUserCaHost()
    const [one, two] = [await host.makeCa('one'), await host.makeCa('two')]
    await host.refresh(naming(one))
    await host.refresh(naming(two))
    await host.clock.advance(15 * DAY)
    await host.refresh(naming(null))
    expect(await host.keys()).toEqual([one, two])
    await host.refresh(naming(null, [], 0))
    expect(await host.keys()).toEqual([two])
  })
})

test('what the issuer may answer instead of a user CA: nothing changes, and an error is told', async () => {
  await using host = await makeUserCaHost()
  const one = await host.makeCa('one')
  const issuer = await startLocalIssuer({ folder: host.folder })
  const sshHostId = issuer.addHost({ hostname: 'web1.example.com', ttlSeconds: 3600 })
  const source = createExchangeClient({
    program: [process.execPath, MAIN, 'exchange'],
    socket: null,
    mayBeChild: true,
    settings: {
      issuer: {
        kind: 'http',
        url: issuer.url,
        sshHostId,
        caFile: null,
        timeoutMilliseconds: 20_000,
        auth: { method: 'token', tokenFile: 'credential:none' },
      },
      log: { level: 'fatal', format: 'json' },
      credentials: {},
    },
    clock: host.clock,
    metrics: { issuerRequest: () => {}, loginFailed: () => {} },
  })
  const refresh = async () => host.refresh(source, { sshHostId })
  try {
    issuer.failNext({ status: 200, body: one }, 1, 'user-ca')
    expect(await refresh()).toBe(true)
    const before = [await readFile(host.places.file, 'utf8'), await readFile(host.places.dropIn, 'utf8')]
    const first = await lastUserCaSuccess(host.places.status)
    expect(first).toBe(host.clock.now())

    const other = await host.makeCa('other')
    const certificate = await signCertificate({
      ca: join(host.folder, 'one'),
      publicKey: other,
      kind: 'user',
    })
    const dsa = Buffer.concat(
      ['ssh-dss', 'p', 'q', 'g', 'y'].map((text) =>
        Buffer.concat([Buffer.from([0, 0, 0, text.length]), Buffer.from(text)]),
      ),
    )
    const rows: readonly (readonly [name: string, fault: Fault, code: string])[] = [
      ['a web page', { kind: 'html', status: 200 }, 'USER_CA_INVALID'],
      ['nothing', { status: 200, body: '' }, 'USER_CA_INVALID'],
      ['a blank', { status: 200, body: ' \n' }, 'USER_CA_INVALID'],
      ['a comment', { status: 200, body: '# none' }, 'USER_CA_INVALID'],
      [
        'a private key',
        { status: 200, body: await readFile(join(host.folder, 'other'), 'utf8') },
        'USER_CA_INVALID',
      ],
      ['10 MiB', { status: 200, body: `${other} ${'x'.repeat(10 * 1024 * 1024)}` }, 'USER_CA_INVALID'],
      ['a body without end', { kind: 'huge' }, 'USER_CA_INVALID'],
      ['two lines', { status: 200, body: `${other}\n${one}\n` }, 'USER_CA_INVALID'],
      ['another key type', { status: 200, body: `ssh-dss ${dsa.toString('base64')}` }, 'USER_CA_INVALID'],
      ['a key cut short', { status: 200, body: other.slice(0, 60) }, 'USER_CA_INVALID'],
      ['a certificate', { status: 200, body: certificate }, 'USER_CA_INVALID'],
      ['a line with options', { status: 200, body: `cert-authority ${other}` }, 'USER_CA_INVALID'],
      ['JSON', { status: 200, body: '{}' }, 'USER_CA_INVALID'],
      ['404', { kind: 'html', status: 404 }, 'ISSUER_NOT_FOUND'],
      ['500', { status: 500, body: '' }, 'ISSUER_BUSY'],
      ['a redirect', { kind: 'redirect', location: 'https://login.example.com/' }, 'ISSUER_INVALID_RESPONSE'],
      ['a reset', { kind: 'reset' }, 'ISSUER_UNREACHABLE'],
    ]
    for (const [name, fault, code] of rows) {
      await host.clock.advance(60)
      host.log.lines.length = 0
      issuer.failNext(fault, 1, 'user-ca')
      expect(await refresh(), name).toBe(false)
      expect(
        host.log.lines.filter(({ level }) => level === 'error'),
        name,
      ).toMatchObject([{ fields: { code } }])
      expect(await host.status(), name).toMatchObject({ error: { code }, cas: [{ unnamed_since: null }] })
      expect(
        [await readFile(host.places.file, 'utf8'), await readFile(host.places.dropIn, 'utf8')],
        name,
      ).toEqual(before)
      expect(JSON.stringify([host.log.lines, await host.status()]), name).not.toContain('b3BlbnNzaC1rZXk')
    }
    expect(await lastUserCaSuccess(host.places.status)).toBe(first)
    expect(await host.logsIn('one')).toBe(true)
  } finally {
    source.end()
    await issuer.stop()
  }
})

test('a key that ssh-keygen does not accept is not put in place', async () => {
  await using host = await makeUserCaHost()
  const blob = Buffer.from('no key')
  const source = naming('')
  const key = { type: 'ssh-ed25519', blob, fingerprint: 'SHA256:x' } as const
  const hostile = { ...source, userCa: async () => ({ kind: 'user-ca', key }) as const }
  expect(await host.refresh(hostile)).toBe(false)
  expect(await host.keys()).toBeNull()
  const longest = { ...key, blob: Buffer.alloc(13 * 1024) }
  expect(await host.refresh({ ...source, userCa: async () => ({ kind: 'user-ca', key: longest }) })).toBe(
    false,
  )
  expect(host.log.messages('error')).toEqual([
    expect.stringContaining('ssh-keygen does not accept SHA256:x'),
    expect.stringContaining('longer than 16 KiB'),
  ])
})

describe('sshd', () => {
  test('a rival that is read first is named, and no success', async () => {
    const rival = '/etc/ssh/other-ca.pub'
    await using host = await makeUserCaHost(`TrustedUserCAKeys ${rival}`)
    const one = await host.makeCa('one')
    expect(await host.refresh(naming(one))).toBe(false)
    expect(host.log.messages('error')).toEqual([
      `${host.sshd.configPath}:1: TrustedUserCAKeys ${rival} is read first, so sshd does not use the user CAs in ${host.places.file}; remove that line, and reload sshd`,
    ])
    // It may be removed without a reload: the next run sees to that.
    expect(await host.status()).toMatchObject({ reload_pending: true })
    expect(await lastUserCaSuccess(host.places.status)).toBeNull()
  })

  test.each([
    { name: 'another CA', keys: 'other', isLost: true },
    { name: 'a file that is not there', keys: null, isLost: false },
    { name: 'the same CA', keys: 'one', isLost: false },
    { name: 'a line that is no key', keys: 'nonsense', isLost: true },
  ])('a line that is read later, and would not count any more: $name', async ({ keys, isLost }) => {
    await using host = await makeUserCaHost()
    const [one, other] = [await host.makeCa('one'), await host.makeCa('other')]
    const rival = join(host.folder, 'rival.pub')
    if (keys !== null) await writeFile(rival, `${{ one, other }[keys] ?? keys}\n`)
    const config = await readFile(host.sshd.configPath, 'utf8')
    await writeFile(host.sshd.configPath, `${config}TrustedUserCAKeys ${rival}\n`)
    await run(host.sshd.reloadScript)
    const logsIn = await host.logsIn('other')
    expect(await host.refresh(naming(one))).toBe(!isLost)
    expect(await host.logsIn('other')).toBe(logsIn)
    expect((await stat(host.places.dropIn).catch(() => null)) === null).toBe(isLost)
    const named = host.log
      .messages('error')
      .filter((line) => line.includes(`TrustedUserCAKeys ${rival} names`))
    expect(named).toHaveLength(isLost ? 1 : 0)
  })

  test('a line that is read later, of a file behind a link, or one that cannot be read: the drop-in is taken back', async () => {
    await using host = await makeUserCaHost()
    const [one, other] = [await host.makeCa('one'), await host.makeCa('other')]
    const [real, rival] = [join(host.folder, 'real.pub'), join(host.folder, 'rival.pub')]
    await writeFile(real, `${other}\n`)
    await symlink(real, rival)
    const config = await readFile(host.sshd.configPath, 'utf8')
    await writeFile(host.sshd.configPath, `${config}TrustedUserCAKeys ${rival}\n`)
    const refused = async (): Promise<void> => {
      expect(await host.refresh(naming(one))).toBe(false)
      expect(await stat(host.places.dropIn).catch(() => null)).toBeNull()
    }
    await refused()
    await writeFile(real, `${other}\n`.repeat(20_000))
    await refused()
    expect(host.log.messages('error').at(-1)).toContain('names CAs that cannot be read')
    await rm(rival)
    await mkdir(rival)
    await refused()
  })

  test('no answer from `sshd -t` takes no drop-in away', async () => {
    await using host = await makeUserCaHost()
    const one = await host.makeCa('one')
    await host.refresh(naming(one), { reload: async () => 'not yet' })
    const bin = join(host.folder, 'bin')
    await mkdir(bin)
    await writeFile(join(bin, 'sshd'), '#!/bin/sh\nexit 1\n', { mode: 0o755 })
    const path = process.env['PATH'] ?? ''
    process.env['PATH'] = `${bin}:${path}`
    try {
      expect(await host.refresh(naming(one))).toBe(false)
    } finally {
      process.env['PATH'] = path
    }
    expect(host.log.messages('error').at(-1)).toMatch(/^it is not known whether sshd accepts /)
    expect((await stat(host.places.dropIn)).isFile()).toBe(true)
    expect(await host.refresh(naming(one))).toBe(true)
  })

  test('a drop-in that was written and not tested is tested by the next run', async () => {
    await using host = await makeUserCaHost()
    const one = await host.makeCa('one')
    await host.refresh(naming(one), { reload: async () => 'not yet' })
    await host.sshd.breakConfig()
    expect(await host.refresh(naming(one))).toBe(false)
    // That is not because of the drop-in, which stays.
    expect((await stat(host.places.dropIn)).isFile()).toBe(true)
    await host.sshd.mendConfig()
    expect(await host.refresh(naming(one))).toBe(true)
    expect(await host.logsIn('one')).toBe(true)

    const strange = { ...host.places, file: join(host.folder, 'with "quote/user-ca.pub') }
    await mkdir(join(host.folder, 'with "quote'))
    const { installUserCas, userCaDropIn } = await import('../../agent/enroll/user-ca-files.ts')
    await writeFile(host.places.dropIn, userCaDropIn(strange))
    await expect(installUserCas([], strange, true, new AbortController().signal)).rejects.toThrow(
      /was taken back: sshd does not accept it/,
    )
    expect(await stat(host.places.dropIn).catch(() => null)).toBeNull()
  })

  test('one below Match wins there, which is only said; without the Include nothing works', async () => {
    await using host = await makeUserCaHost()
    const one = await host.makeCa('one')
    const config = await readFile(host.sshd.configPath, 'utf8')
    await writeFile(host.sshd.configPath, `${config}Match User nobody\n  TrustedUserCAKeys /etc/ssh/x.pub\n`)
    expect(await host.refresh(naming(one))).toBe(true)
    expect(host.log.messages('warn')).toEqual([expect.stringContaining('below a Match line')])
    await writeFile(host.sshd.configPath, config.replace(/^Include.*$/m, ''))
    expect(await host.refresh(naming(one))).toBe(false)
    expect(host.log.messages('error')).toEqual([
      `sshd does not read ${host.places.dropIn}; add this line at the top of ${host.sshd.configPath}, and reload sshd: Include ${host.places.dropIn}`,
    ])
  })

  test('a configuration that is broken before: no drop-in; broken by the drop-in: put back', async () => {
    await using host = await makeUserCaHost()
    const one = await host.makeCa('one')
    await host.sshd.breakConfig()
    expect(await host.refresh(naming(one))).toBe(false)
    expect(await stat(host.places.dropIn).catch(() => null)).toBeNull()
    expect(host.log.messages('error')).toEqual([
      expect.stringMatching(
        /^sshd -t fails, so .*41-hostcertd-user-ca\.conf was not written: .*NoSuchKeyword/,
      ),
    ])
    await host.sshd.mendConfig()

    // Included in a Match block that forbids what follows: sshd refuses the file of the drop-in only once it is there.
    const strange = { ...host.places, file: join(host.folder, 'with "quote/user-ca.pub') }
    await mkdir(join(host.folder, 'with "quote'))
    const { installUserCas } = await import('../../agent/enroll/user-ca-files.ts')
    await writeFile(host.places.dropIn, '# before\n')
    await expect(installUserCas([], strange, false, new AbortController().signal)).rejects.toThrow(
      /41-hostcertd-user-ca\.conf was taken back: sshd does not accept it: /,
    )
    expect(await readFile(host.places.dropIn, 'utf8')).toBe('# before\n')

    expect(await host.refresh(naming(one))).toBe(true)
    expect(await host.logsIn('one')).toBe(true)
  })

  test('a drop-in owned by another user is restored with root as its owner', needsRoot, async () => {
    await using host = await makeUserCaHost()
    const strange = { ...host.places, file: join(host.folder, 'with "quote/user-ca.pub') }
    await mkdir(join(host.folder, 'with "quote'))
    await writeFile(host.places.dropIn, '# before\n')
    await chown(host.places.dropIn, 65_534, 65_534)
    const { installUserCas } = await import('../../agent/enroll/user-ca-files.ts')
    await expect(installUserCas([], strange, false, new AbortController().signal)).rejects.toThrow(
      /was taken back/,
    )
    expect(await readFile(host.places.dropIn, 'utf8')).toBe('# before\n')
    expect(await stat(host.places.dropIn)).toMatchObject({ uid: 0, gid: 0, mode: 0o100644 })
  })

  test('a reload that failed is made up for by the next run, also when nothing else changes', async () => {
    await using host = await makeUserCaHost()
    const one = await host.makeCa('one')
    expect(await host.refresh(naming(one), { reload: async () => 'too often' })).toBe(false)
    expect(await host.status()).toMatchObject({
      reload_pending: true,
      error: { code: 'SSHD_RELOAD_FAILED', message: 'too often' },
    })
    expect(await host.logsIn('one')).toBe(false)
    expect(await host.refresh(naming(one))).toBe(true)
    expect(await host.logsIn('one')).toBe(true)
    await host.refresh(naming(one))
    expect(await host.sshd.reloadCount()).toBe(1)
  })

  test('sshd.reload: never', async () => {
    await using host = await makeUserCaHost()
    const reload = async () => 'asked to reload'
    const wish = { reload, reloads: 'never' } as const
    const one = naming(await host.makeCa('one'))
    expect(await host.refresh(one, wish)).toBe(true)
    expect(host.log.messages('warn')).toEqual([expect.stringContaining('sshd.reload is never')])
    expect(await host.refresh(one, wish)).toBe(true)
    expect(host.log.messages('warn')).toHaveLength(1)
  })

  test('the lock of the root helper is waited for', async () => {
    await using host = await makeUserCaHost()
    const one = await host.makeCa('one')
    await mkdir(host.places.lockFolder)
    const lock = join(host.places.lockFolder, 'lock')
    const holder = spawn('flock', [lock, 'sh', '-c', 'echo held; read end'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    await new Promise((resolve) => holder.stdout.once('data', resolve))
    const refreshing = host.refresh(naming(one))
    // It has come to the lock when it has noted that sshd is to be reloaded.
    await expect.poll(async () => host.status().catch(() => null)).toMatchObject({ reload_pending: true })
    expect(await host.keys()).toBeNull()
    holder.stdin.end()
    expect(await refreshing).toBe(true)
    expect(await host.keys()).toEqual([one])
  })
})

describe('files', () => {
  test('are root’s and readable for everyone, whoever changed them', needsRoot, async () => {
    await using host = await makeUserCaHost()
    const one = await host.makeCa('one')
    await host.refresh(naming(one))
    const { file, dropIn, status } = host.places
    const looks = async (): Promise<string[]> =>
      Promise.all(
        [file, dropIn, status].map(async (path) => {
          const { uid, gid, mode } = await stat(path)
          return `${uid} ${gid} ${(mode & 0o7777).toString(8)}`
        }),
      )
    expect(await looks()).toEqual(['0 0 644', '0 0 644', '0 0 644'])
    await chmod(file, 0o666)
    await run('chown', ['65534', dropIn])
    await host.refresh(naming(one))
    expect(await looks()).toEqual(['0 0 644', '0 0 644', '0 0 644'])
  })

  test('what somebody wrote into the file: keys count as CAs that the issuer does not name; other lines go', async () => {
    await using host = await makeUserCaHost()
    const [one, two] = [await host.makeCa('one'), await host.makeCa('two')]
    await host.refresh(naming(one))
    await writeFile(host.places.file, `${two} a comment\nrubbish\n`)
    await host.refresh(naming(one))
    expect(await host.keys()).toEqual([two, one])
    expect(host.log.messages('warn')).toEqual([
      `${host.places.file}:2 is no key that hostcertd can use, and is removed`,
    ])
    await host.clock.advance(14 * DAY)
    await host.refresh(naming(one))
    expect(await host.keys()).toEqual([one])
  })

  test('what is in the place of the file is not followed, and nothing is changed', async () => {
    await using host = await makeUserCaHost()
    const one = await host.makeCa('one')
    await mkdir(join(host.folder, 'hostcertd'))
    const target = join(host.folder, 'target')
    await writeFile(target, 'keep')
    await symlink(target, host.places.file)
    expect(await host.refresh(naming(one))).toBe(false)
    expect(await readFile(target, 'utf8')).toBe('keep')
    expect(host.log.messages('error')).toEqual([
      `cannot read ${host.places.file}: it is a symbolic link, not a regular file`,
    ])
  })

  test('a status that is damaged or lost: the overlap begins again', async () => {
    await using host = await makeUserCaHost()
    const [one, two] = [await host.makeCa('one'), await host.makeCa('two')]
    await host.refresh(naming(one))
    await host.refresh(naming(two))
    await host.clock.advance(13 * DAY)
    await writeFile(host.places.status, '{"version":1')
    expect(await lastUserCaSuccess(host.places.status)).toBeNull()
    await host.refresh(naming(two))
    expect(host.log.messages('warn')).toEqual([expect.stringContaining('stays for another overlap')])
    await host.clock.advance(13 * DAY)
    await host.refresh(naming(two))
    expect(await host.keys()).toEqual([one, two])
    await rm(host.places.status)
    await host.refresh(naming(two))
    await host.clock.advance(14 * DAY)
    await host.refresh(naming(two))
    expect(await host.keys()).toEqual([two])
  })

  test('user_ca.install: false: what is in place stays, and there is no status to alert on', async () => {
    await using host = await makeUserCaHost()
    const one = await host.makeCa('one')
    await host.refresh(naming(one))
    expect(await host.refresh(naming(null), { install: false })).toBe(true)
    expect(await host.keys()).toEqual([one])
    expect(await stat(host.places.status).catch(() => null)).toBeNull()
  })
})

test('news of host CAs: one that is not pinned is a warning with its fingerprint, and is not pinned', async () => {
  await using host = await makeUserCaHost()
  const [pinned, other] = [await host.makeCa('pinned'), await host.makeCa('other')]
  const hostCaFile = join(host.folder, 'host-ca.pub')
  await writeFile(hostCaFile, `${pinned}\n`)
  const wish = { install: false, hostCaFile }
  expect(await host.refresh(naming(null, [pinned]), wish)).toBe(true)
  expect(host.log.messages('warn')).toEqual([])
  expect(await host.refresh(naming(null, [pinned, other]), wish)).toBe(true)
  expect(host.log.messages('warn')).toEqual([
    `the issuer names the host CA ${keyIn(other).fingerprint}, which is not pinned: if it is genuine, add it to ${hostCaFile} before the issuer signs with it`,
  ])
  expect(await readFile(hostCaFile, 'utf8')).toBe(`${pinned}\n`)
  expect(await stat(host.places.status).catch(() => null)).toBeNull()
  expect(await host.refresh(naming(null), wish)).toBe(false)
  await rm(hostCaFile)
  expect(await host.refresh(naming(null, [pinned]), wish)).toBe(false)
  expect(host.log.messages('error')).toEqual([
    'the host CA is not known: cannot reach it',
    expect.stringContaining(hostCaFile),
  ])
})
