import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { readServiceSandbox } from '../../agent/doctor/directory.ts'
import { makeFakeProgram } from './fake-program.ts'

const NEVER = new AbortController().signal
const UNIT = new URL('../../systemd/hostcertd.service', import.meta.url)

/** In place of systemctl(1), for there is no systemd where this is tested. */
async function answerTo(text: string, status = 0) {
  const script = `printf '%s' "$*" >"\${0%/*}/asked"\ncat <<'END'\n${text}\nEND\nexit ${status}`
  await using fake = await makeFakeProgram('systemctl', script)
  const { folder, program } = fake
  const sandbox = await readServiceSandbox('hostcertd.service', NEVER, { program })
  return { sandbox, asked: await readFile(join(folder, 'asked'), 'utf8') }
}

test('our own unit, as systemd shows it', async () => {
  const unit = await readFile(UNIT, 'utf8')
  const settings = unit
    .split('\n')
    .filter((line) => /^(Protect(System|Home)|PrivateTmp|StateDirectory)=/.test(line))
  const { sandbox, asked } = await answerTo(
    `LoadState=loaded\nReadWritePaths=-/srv/a +/srv/b\n${settings.join('\n')}`,
  )
  expect(sandbox).toEqual({
    protectSystem: 'strict',
    protectHome: 'yes',
    hasPrivateTmp: true,
    writable: ['/srv/a', '/srv/b', '/var/lib/hostcertd'],
  })
  expect(asked).toMatch(/^show --property LoadState,.*ReadWritePaths -- hostcertd\.service$/)
})

test('a unit that protects nothing', async () => {
  const { sandbox } = await answerTo('LoadState=loaded\nProtectSystem=no\nProtectHome=no\nPrivateTmp=no\n')
  expect(sandbox).toEqual({ protectSystem: 'no', protectHome: 'no', hasPrivateTmp: false, writable: [] })
})

test.each([
  { name: 'no such unit', text: 'LoadState=not-found\nProtectSystem=no', status: 0 },
  { name: 'no systemd', text: '', status: 1 },
])('$name', async ({ text, status }) => {
  expect((await answerTo(text, status)).sandbox).toBeNull()
})

test('no systemctl', async () => {
  expect(await readServiceSandbox('x.service', NEVER, { program: '/nonexistent/systemctl' })).toBeNull()
})
