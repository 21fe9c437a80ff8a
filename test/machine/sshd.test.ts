import { execFileSync, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { appendFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createSshd, dropInText, type SshdOptions } from '../../agent/host/sshd.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'

const never = new AbortController().signal

let folder: TemporaryFolder
let helperSocket: string
beforeEach(async () => {
  folder = await makeTemporaryFolder()
  helperSocket = join(folder.path, 'reload.sock')
  await mkdir(join(folder.path, 'copies'))
})
afterEach(() => folder.remove())

function sshdWith(options: Partial<SshdOptions>) {
  return createSshd({
    reloadCommand: null,
    copiesDirectory: join(folder.path, 'copies'),
    dropIn: join(folder.path, '40-hostcertd.conf'),
    helperSocket,
    busyPauses: [5, 5, 5],
    ...options,
  })
}

function reloadFailed(words: string) {
  return { kind: 'failed', failure: { code: 'SSHD_RELOAD_FAILED', message: expect.stringContaining(words) } }
}

const DONE = { kind: 'done', listen: [], notes: [], reloadNeeded: false }

describe('the helper', () => {
  const sockets = new Set<Socket>()
  const words: string[] = []
  let server: Server | null = null

  afterEach(() => {
    for (const socket of sockets) socket.destroy()
    server?.close()
    server = null
    words.length = 0
  })

  /** Answers as the root helper does, or as it should not. */
  async function helper(answer: (socket: Socket, count: number) => void): Promise<void> {
    let count = 0
    server = createServer({ allowHalfOpen: true }, (socket) => {
      sockets.add(socket)
      socket.on('error', () => undefined)
      socket.on('data', (data) => words.push(String(data)))
      answer(socket, ++count)
    }).listen(helperSocket)
    await once(server, 'listening')
  }

  /** Waits for the word first. */
  function saying(line: string): (socket: Socket) => void {
    return (socket) => socket.once('data', () => socket.end(line))
  }

  test.each([
    {
      line: 'ok listen=127.0.0.1:22 reload=no\n',
      listen: ['127.0.0.1:22'],
      notes: [],
      reloadNeeded: false,
    },
    {
      line: 'ok listen=0.0.0.0:22,[::]:22 reload=yes : not this; that\t\u001B[31mnor\u0007 that\t\n',
      listen: ['0.0.0.0:22', '[::]:22'],
      notes: ['not this; that', '[31mnor that'],
      reloadNeeded: true,
    },
    { line: 'ok listen= reload=no\n', listen: [], notes: [], reloadNeeded: false },
  ])('$line', async ({ line, listen, notes, reloadNeeded }) => {
    await helper(saying(line))
    const sshd = sshdWith({})
    expect(sshd.canReload).toBe(true)
    expect(sshd.hasHelper).toBe(true)
    expect(await sshd.install(never)).toEqual({ kind: 'done', listen, notes, reloadNeeded })
    expect(await sshd.reload(never)).toEqual({ kind: 'done', listen, notes, reloadNeeded })
    expect(words).toEqual(['install\n', 'reload\n'])
  })

  test.each([
    ['error SSHD_CONFIG_INVALID listen=0.0.0.0:22 : line 3: bad\n', 'SSHD_CONFIG_INVALID', /^line 3: bad$/],
    ['error STORE_FAILED listen= : no space left\n', 'STORE_FAILED', /^no space left$/],
    ['error SSHD_RELOAD_FAILED listen= : \u001B[31mred\n', 'SSHD_RELOAD_FAILED', /^\[31mred$/],
    ['error CERT_EXPIRED listen= : a code that is not the helper’s\n', 'SSHD_RELOAD_FAILED', /understood/],
    ['error STORE_FAILED listen=\n', 'SSHD_RELOAD_FAILED', /understood/],
    ['ok listen=-oProxyCommand reload=no\n', 'SSHD_RELOAD_FAILED', /understood/],
    ['ok listen=127.0.0.1:22\n', 'SSHD_RELOAD_FAILED', /understood/],
    ['busy listen=127.0.0.1:22\n', 'SSHD_RELOAD_FAILED', /understood/],
    ['busy retry=0 listen=127.0.0.1:22\n', 'SSHD_RELOAD_FAILED', /understood/],
    ['busy retry=86400 listen=127.0.0.1:22\n', 'SSHD_RELOAD_FAILED', /understood/],
    ['busy retry=5 listen=127.0.0.1:22 reload=no\n', 'SSHD_RELOAD_FAILED', /understood/],
    ['ok retry=5 listen=127.0.0.1:22 reload=no\n', 'SSHD_RELOAD_FAILED', /understood/],
    ['\n', 'SSHD_RELOAD_FAILED', /understood/],
    ['ok listen=127.0.0.1:22 relo', 'SSHD_RELOAD_FAILED', /cut short/],
  ])('%s', async (line, code, message) => {
    await helper(saying(line))
    const outcome = await sshdWith({}).reload(never)
    expect(outcome).toEqual({ kind: 'failed', failure: { code, message: expect.stringMatching(message) } })
  })

  test('an answer without measure', async () => {
    await helper(saying(`ok listen= reload=no : ${'x'.repeat(70_000)}\n`))
    const outcome = await sshdWith({}).reload(never)
    expect(outcome).toEqual(reloadFailed('too long'))
  })

  test('over its limit of reloads: how long to wait', async () => {
    await helper(saying('busy retry=14 listen=0.0.0.0:22,[fe80::1%eth0]:2222\n'))
    expect(await sshdWith({}).reload(never)).toEqual({
      kind: 'busy',
      retrySeconds: 14,
      listen: ['0.0.0.0:22', '[fe80::1%eth0]:2222'],
    })
    expect(words).toEqual(['reload\n'])
  })

  test('serving somebody else it is asked again, a few times', async () => {
    await helper((socket, count) => (count < 3 ? socket.destroy() : saying('ok listen= reload=no\n')(socket)))
    expect(await sshdWith({}).reload(never)).toEqual(DONE)
    await rm(helperSocket, { force: true })
    server?.close()
    let tries = 0
    await helper((socket) => {
      tries++
      socket.end()
    })
    const outcome = await sshdWith({}).reload(never)
    expect(outcome).toMatchObject({ kind: 'failed', failure: { code: 'SSHD_RELOAD_FAILED' } })
    expect(tries).toBe(4)
  })

  test('silence ends after a time, and an abort at once', async () => {
    await helper(() => undefined)
    const outcome = await sshdWith({ helperTimeoutMilliseconds: 50 }).reload(never)
    expect(outcome).toMatchObject({ kind: 'failed', failure: { code: 'SSHD_RELOAD_FAILED' } })
    const controller = new AbortController()
    const reload = sshdWith({ busyPauses: [] }).reload(controller.signal)
    const reason = new Error('shutting down')
    await wait(20)
    controller.abort(reason)
    await expect(reload).rejects.toBe(reason)
    await expect(sshdWith({}).install(controller.signal)).rejects.toBe(reason)
  })

  test('it may come later, and reload_command wins over it', async () => {
    const sshd = sshdWith({})
    expect(sshd.canReload).toBe(false)
    await helper(saying('error STORE_FAILED listen= : asked\n'))
    expect(sshd.canReload).toBe(true)
    expect(await sshdWith({ reloadCommand: ['true'] }).reload(never)).toEqual(DONE)
    expect(await sshdWith({ reloadCommand: ['true'] }).install(never)).toEqual(DONE)
    expect(words).toEqual([])
  })

  test('a socket that nobody listens on any more', async () => {
    const program = `require('node:net').createServer().listen(process.argv[1], () => process.kill(process.pid, 9))`
    spawnSync(process.execPath, ['-e', program, helperSocket])
    const outcome = await sshdWith({}).reload(never)
    expect(outcome).toEqual(reloadFailed('ECONNREFUSED'))
  })
})

describe('installNeeded', () => {
  const copy = (name: string): string => join(folder.path, 'copies', `${name}-cert.pub`)
  const dropIn = (): string => join(folder.path, '40-hostcertd.conf')
  let said: string
  let server: Server

  beforeEach(async () => {
    said = 'ok listen= reload=no\n'
    server = createServer((socket) => socket.once('data', () => socket.end(said))).listen(helperSocket)
    await once(server, 'listening')
  })
  afterEach(() => {
    server.close()
  })

  /** As the helper has it for what lies in the folder of copies now. */
  async function writeDropIn(...names: string[]): Promise<void> {
    const files = names.map((name) => `${name}-cert.pub`)
    await writeFile(dropIn(), dropInText(join(folder.path, 'copies'), files) ?? '')
  }

  const staged = (...entries: [name: string, text: string][]): ReadonlyMap<string, string> => new Map(entries)

  test('a certificate that differs from its copy, or has none', async () => {
    const sshd = sshdWith({})
    expect(await sshd.installNeeded(staged(), ['a'])).toBe(false)
    expect(await sshd.installNeeded(staged(['a', 'one']), ['a'])).toBe(true)
    await writeFile(copy('a'), 'one')
    await writeDropIn('a')
    expect(await sshd.installNeeded(staged(['a', 'one']), ['a'])).toBe(false)
    expect(await sshd.installNeeded(staged(['a', 'two']), ['a'])).toBe(true)
    // Deleted where it is staged: there is nothing to copy, and what sshd has stays.
    expect(await sshd.installNeeded(staged(), ['a'])).toBe(false)
  })

  test('a copy too many; other files are no copies', async () => {
    const sshd = sshdWith({})
    await writeFile(join(folder.path, 'copies', 'README'), 'not a copy')
    await mkdir(copy('folder'))
    expect(await sshd.installNeeded(staged(), ['a'])).toBe(false)
    await writeFile(copy('b'), 'of a key that is gone')
    await writeDropIn('b')
    expect(await sshd.installNeeded(staged(), ['a'])).toBe(true)
    expect(await sshd.installNeeded(staged(), ['a', 'b'])).toBe(false)
  })

  test('a drop-in that is missing, or changed, or left over', async () => {
    const sshd = sshdWith({})
    for (const name of ['b', 'a', 'with space']) await writeFile(copy(name), name)
    const needed = () => sshd.installNeeded(staged(['a', 'a']), ['a', 'b', 'with space'])
    expect(await needed()).toBe(true)
    await writeDropIn('with space', 'b', 'a')
    expect(await readFile(dropIn(), 'utf8')).toBe(
      `# Written by hostcertd for each certificate that there is; changes are lost.
HostCertificate ${copy('a')}
HostCertificate ${copy('b')}
HostCertificate "${copy('with space')}"
`,
    )
    expect(await needed()).toBe(false)
    await appendFile(dropIn(), 'Port 2222\n')
    expect(await needed()).toBe(true)
    await rm(join(folder.path, 'copies'), { recursive: true })
    expect(await sshd.installNeeded(staged(), ['a'])).toBe(true)
    await rm(dropIn())
    expect(await sshd.installNeeded(staged(), ['a'])).toBe(false)
  })

  test('what cannot be read says nothing', async () => {
    await writeFile(copy('a'), 'one')
    const file = join(folder.path, 'file')
    await writeFile(file, '')
    // ENOTDIR, as EACCES does not happen to root.
    expect(await sshdWith({ dropIn: join(file, 'drop-in') }).installNeeded(staged(['a', 'one']), ['a'])).toBe(
      false,
    )
    expect(await sshdWith({ copiesDirectory: file }).installNeeded(staged(), [])).toBe(false)
    // But then it is not known that there is nothing to copy.
    expect(await sshdWith({ copiesDirectory: file }).installNeeded(staged(['a', 'one']), ['a'])).toBe(true)
  })

  test('what the helper leaves out is not asked of it again, until something changes', async () => {
    said = 'ok listen= reload=no : not installed: a-cert.pub is for another key\n'
    const sshd = sshdWith({})
    expect(await sshd.installNeeded(staged(['a', 'one']), ['a'])).toBe(true)
    expect(await sshd.install(never)).toMatchObject({
      kind: 'done',
      notes: ['not installed: a-cert.pub is for another key'],
    })
    expect(await sshd.installNeeded(staged(['a', 'one']), ['a'])).toBe(false)
    expect(await sshd.installNeeded(staged(['a', 'two']), ['a'])).toBe(true)
  })

  test('a copy that the helper keeps without a public half: asked once, and once more when that is back', async () => {
    const sshd = sshdWith({})
    await writeFile(copy('a'), 'one')
    await writeDropIn('a')
    expect(await sshd.installNeeded(staged(), [])).toBe(true)
    await sshd.install(never)
    expect(await sshd.installNeeded(staged(), [])).toBe(false)
    expect(await sshd.installNeeded(staged(['a', 'one']), ['a'])).toBe(true)
    await sshd.install(never)
    expect(await sshd.installNeeded(staged(['a', 'one']), ['a'])).toBe(false)
  })

  test.each(['error STORE_FAILED listen= : full\n', 'busy retry=3 listen=\n'])(
    'after %j it is asked again',
    async (line) => {
      said = line
      const sshd = sshdWith({})
      expect(await sshd.installNeeded(staged(['a', 'one']), ['a'])).toBe(true)
      await sshd.install(never)
      expect(await sshd.installNeeded(staged(['a', 'one']), ['a'])).toBe(true)
    },
  )

  test('a FIFO in the place of a copy or of the drop-in does not hang it', async () => {
    execFileSync('mkfifo', [copy('a'), dropIn()])
    expect(await sshdWith({}).installNeeded(staged(['a', 'one']), ['a'])).toBe(true)
    expect(await sshdWith({}).installNeeded(staged(), ['a'])).toBe(false)
  })
})

test('neither command nor helper', async () => {
  const sshd = sshdWith({})
  expect(sshd.canReload).toBe(false)
  expect(await sshd.install(never)).toEqual(DONE)
  expect(sshd.hasHelper).toBe(false)
  expect(await sshd.installNeeded(new Map([['a', 'one']]), ['a'])).toBe(false)
  expect(await sshd.reload(never)).toEqual({
    kind: 'failed',
    failure: {
      code: 'SSHD_RELOAD_FAILED',
      message: `no reload_command is set and there is no ${helperSocket}`,
    },
  })
})
