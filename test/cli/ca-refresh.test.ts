import { spawn } from 'node:child_process'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import { caRefresh } from '../../agent/cli/ca-refresh.ts'
import type { CliContext } from '../../agent/cli/context.ts'
import { startLocalIssuer } from '../support/local-issuer.ts'
import { needsRoot } from '../support/skip.ts'
import { makeBareHost } from './bare-host.ts'
import { environmentWith, exitOf, PROGRAM } from './hostcertd.ts'
import { inertContext } from './in-process.ts'

test.each([
  { options: {}, isNow: false, isWell: true, status: 0 },
  { options: { now: true }, isNow: true, isWell: true, status: 0 },
  { options: {}, isNow: false, isWell: false, status: 1 },
])('one run: $options, $isWell', needsRoot, async ({ options, isNow, isWell, status }) => {
  const asked: boolean[] = []
  const context: CliContext = {
    ...inertContext(),
    refreshCas: async (_file, _load, now) => {
      asked.push(now)
      return isWell
    },
  }
  expect(await caRefresh(context, options, new AbortController().signal)).toBe(status)
  expect(asked).toEqual([isNow])
})

/** A machine of its own as far as root's part goes: nothing is in the folders that it writes to, nor the unit's socket. */
const ENTER = 'for folder in /etc/ssh /var/lib /run; do mount -t tmpfs none $folder || exit; done; exec "$@"'

test(
  'without the unit of the exchange nothing is fetched: root does not do it itself',
  needsRoot,
  async () => {
    await using host = await makeBareHost()
    await using issuer = await startLocalIssuer({ folder: host.folder })
    const sshHostId = issuer.addHost({ hostname: 'web1.example.com', ttlSeconds: 3600 })
    await host.configure({
      issuer: { url: issuer.url, ssh_host_id: sshHostId, timeout: '5s' },
      user_ca: { install: true },
    })
    // An exchange inherits NODE_OPTIONS.
    const [hook, started] = [join(host.folder, 'hook.cjs'), join(host.folder, 'started')]
    const line = `process.argv.slice(2).join(' ') + '\\n'`
    await writeFile(hook, `require('node:fs').appendFileSync(${JSON.stringify(started)}, ${line})`)
    const verb = ['ca', 'refresh', '--now', '--config', host.configPath]
    const argv = ['-m', 'sh', '-c', ENTER, 'sh', process.execPath, PROGRAM, ...verb]
    const program = spawn('/usr/bin/unshare', argv, {
      env: environmentWith({ NODE_OPTIONS: `--require=${hook}` }),
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    const [stderr, status] = await Promise.all([text(program.stderr), exitOf(program)])
    expect(status, stderr).toBe(1)
    expect(stderr).toContain('there is no /run/hostcertd-exchange.sock: ')
    expect(issuer.requests).toEqual([])
    expect(await readFile(started, 'utf8')).toBe(`${verb.join(' ')}\n`)
  },
)
