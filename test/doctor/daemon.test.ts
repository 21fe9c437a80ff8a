import { createServer } from 'node:net'
import { expect, test } from 'vitest'
import { HANGS, LIVE, startFakeDaemon, statusAnswer, type FakeAnswer } from '../cli/fake-daemon.ts'
import { listen } from '../issuer/harness.ts'
import { of } from './findings.ts'
import { makeWard } from './ward.ts'

const STARTING: FakeAnswer = { status: 503, body: '{"error":"starting"}' }

test.each<{
  name: string
  answers: Readonly<Record<string, FakeAnswer | null>>
  status: string
  message: RegExp
  remedy: RegExp
}>([
  {
    name: 'it hangs',
    answers: { '/status': statusAnswer([]), '/livez': HANGS },
    status: 'failure',
    message: /^listening on 127.*, but hangs: no pass completed since 2026-11-23T13:00:00Z$/,
    remedy: /^`systemctl restart hostcertd`; `journalctl/,
  },
  {
    name: 'it starts',
    answers: { '/status': STARTING, '/livez': LIVE },
    status: 'ok',
    message: /^running on 127.*; its first pass is not complete, or it is an older version/,
    remedy: /^$/,
  },
  {
    name: 'running with another configuration',
    answers: { '/status': statusAnswer([]), '/livez': LIVE },
    status: 'warning',
    message: /another configuration \(https:\/\/issuer\)/,
    remedy: /^`systemctl reload hostcertd`$/,
  },
  {
    name: 'another program has its port',
    answers: { '/': LIVE },
    status: 'warning',
    message: /^another program is listening on 127.*, so the state of hostcertd is unknown$/,
    remedy:
      /^`ss -ltnp` shows which program it is: stop it, or set another health\.listen .*`systemctl status hostcertd` shows/,
  },
  {
    name: 'somebody accepts connections there and says nothing',
    answers: { '/status': null },
    status: 'warning',
    message: /^the program listening on 127.* does not respond: hostcertd, which hangs, or another program$/,
    remedy: /^`ss -ltnp` shows which program it is: if it is hostcertd, `systemctl restart hostcertd`/,
  },
])('$name', async ({ answers, status, message, remedy }) => {
  await using daemon = await startFakeDaemon(answers)
  await using ward = await makeWard()
  await ward.configure({ health: { listen: daemon.listen } })
  const { findings } = await ward.diagnose()
  const [finding] = of('daemon', findings)
  expect(finding).toMatchObject({ status, message: expect.stringMatching(message) as string })
  expect(finding?.remedy ?? '').toMatch(remedy)
})

test('a program that does not speak HTTP has its port', async () => {
  await using stranger = await listen(createServer((socket) => socket.end('220 ready\r\n')))
  await using ward = await makeWard()
  await ward.configure({ health: { listen: `127.0.0.1:${stranger.port}` } })
  const { findings } = await ward.diagnose()
  expect(of('daemon', findings)[0]?.message).toMatch(/^another program is listening on /)
})
