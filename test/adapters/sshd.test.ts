import { once } from 'node:events'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createSshd, type SshdOptions } from '../../agent/adapters/sshd.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'

const never = new AbortController().signal

let folder: TemporaryFolder
let helperSocket: string
beforeEach(async () => {
  folder = await makeTemporaryFolder()
  helperSocket = join(folder.path, 'reload.sock')
  await mkdir(join(folder.path, 'staged'))
  await mkdir(join(folder.path, 'copies'))
})
afterEach(() => folder.remove())

function sshdWith(options: Partial<SshdOptions>) {
  return createSshd({
    reloadCommand: null,
    stagedDirectory: join(folder.path, 'staged'),
    copiesDirectory: join(folder.path, 'copies'),
    helperSocket,
    busyPauses: [5, 5, 5],
    ...options,
  })
}

function reloadFailed(words: string) {
  return { ok: false, failure: { code: 'SSHD_RELOAD_FAILED', message: expect.stringContaining(words) } }
}

const DONE = { ok: true, listen: [], remark: null, reloadNeeded: false }

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
      remark: null,
      reloadNeeded: false,
    },
    {
      line: 'ok listen=0.0.0.0:22,[::]:22 reload=yes : two copied\n',
      listen: ['0.0.0.0:22', '[::]:22'],
      remark: 'two copied',
      reloadNeeded: true,
    },
    { line: 'ok listen= reload=no\n', listen: [], remark: null, reloadNeeded: false },
  ])('$line', async ({ line, listen, remark, reloadNeeded }) => {
    await helper(saying(line))
    const sshd = sshdWith({})
    expect(sshd.canReload).toBe(true)
    expect(await sshd.install(never)).toEqual({ ok: true, listen, remark, reloadNeeded })
    expect(await sshd.reload(never)).toEqual({ ok: true, listen, remark, reloadNeeded })
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
    ['\n', 'SSHD_RELOAD_FAILED', /understood/],
    ['ok listen=127.0.0.1:22 relo', 'SSHD_RELOAD_FAILED', /cut short/],
  ])('%s', async (line, code, message) => {
    await helper(saying(line))
    const outcome = await sshdWith({}).reload(never)
    expect(outcome).toEqual({ ok: false, failure: { code, message: expect.stringMatching(message) } })
  })

  test('an answer without measure', async () => {
    await helper(saying(`ok listen= reload=no : ${'x'.repeat(5000)}\n`))
    const outcome = await sshdWith({}).reload(never)
    expect(outcome).toEqual(reloadFailed('too long'))
  })

  test('busy is tried again, a few times', async () => {
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
    expect(outcome).toMatchObject({ ok: false, failure: { code: 'SSHD_RELOAD_FAILED' } })
    expect(tries).toBe(4)
  })

  test('silence ends after a time, and an abort at once', async () => {
    await helper(() => undefined)
    const outcome = await sshdWith({ helperTimeoutMilliseconds: 50 }).reload(never)
    expect(outcome).toMatchObject({ ok: false, failure: { code: 'SSHD_RELOAD_FAILED' } })
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
  const staged = (name: string): string => join(folder.path, 'staged', `${name}-cert.pub`)
  const copy = (name: string): string => join(folder.path, 'copies', `${name}-cert.pub`)
  let server: Server

  beforeEach(async () => {
    server = createServer().listen(helperSocket)
    await once(server, 'listening')
  })
  afterEach(() => {
    server.close()
  })

  test('follows what is staged, copied and listed', async () => {
    const sshd = sshdWith({})
    expect(await sshd.installNeeded(['a'], ['a'])).toBe(false)
    await writeFile(staged('a'), 'one')
    expect(await sshd.installNeeded(['a'], ['a'])).toBe(true)
    await writeFile(copy('a'), 'one')
    expect(await sshd.installNeeded(['a'], ['a'])).toBe(false)
    await writeFile(staged('a'), 'two')
    expect(await sshd.installNeeded(['a'], ['a'])).toBe(true)
    await writeFile(copy('a'), 'two')
    await writeFile(join(folder.path, 'copies', 'README'), 'not a copy')
    expect(await sshd.installNeeded(['a'], ['a'])).toBe(false)
    // Deleted where it is staged: there is nothing to copy, and what sshd has stays.
    await rm(staged('a'))
    expect(await sshd.installNeeded(['a'], ['a'])).toBe(false)
    await writeFile(copy('b'), 'of a key that is gone')
    expect(await sshd.installNeeded(['a'], ['a'])).toBe(true)
    await rm(join(folder.path, 'copies'), { recursive: true })
    expect(await sshd.installNeeded(['a'], ['a'])).toBe(false)
  })

  test('what the helper does not copy is not asked of it again, until something changes', async () => {
    const said = 'ok listen= reload=no : not installed: a-cert.pub is for no host key\n'
    server.on('connection', (socket) => socket.once('data', () => socket.end(said)))
    const sshd = sshdWith({})
    await writeFile(staged('a'), 'one')
    expect(await sshd.installNeeded(['a'], ['a'])).toBe(true)
    expect(await sshd.install(never)).toMatchObject({
      ok: true,
      remark: 'not installed: a-cert.pub is for no host key',
    })
    expect(await sshd.installNeeded(['a'], ['a'])).toBe(false)
    await writeFile(staged('a'), 'two')
    expect(await sshd.installNeeded(['a'], ['a'])).toBe(true)
  })

  test('a FIFO in either place does not hang it', async () => {
    execFileSync('mkfifo', [staged('a')])
    expect(await sshdWith({}).installNeeded(['a'], ['a'])).toBe(false)
    await writeFile(staged('b'), 'one')
    execFileSync('mkfifo', [copy('b')])
    expect(await sshdWith({}).installNeeded(['a', 'b'], ['a', 'b'])).toBe(true)
  })
})

test('neither command nor helper', async () => {
  const sshd = sshdWith({})
  expect(sshd.canReload).toBe(false)
  expect(await sshd.install(never)).toEqual(DONE)
  expect(await sshd.installNeeded(['a'], ['a'])).toBe(false)
  expect(await sshd.reload(never)).toEqual({
    ok: false,
    failure: {
      code: 'SSHD_RELOAD_FAILED',
      message: `no reload_command is set and there is no ${helperSocket}`,
    },
  })
})
