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
    message: /^it answers at 127.*, but hangs: no pass was completed since 2026-11-23T13:00:00Z$/,
    remedy: /^`systemctl restart hostcertd`; `journalctl/,
  },
  {
    name: 'it starts',
    answers: { '/status': STARTING, '/livez': LIVE },
    status: 'ok',
    message: /^it answers at 127.*; its first pass is under way, or it is an older version/,
    remedy: /^$/,
  },
  {
    name: 'it runs with another configuration',
    answers: { '/status': statusAnswer([]), '/livez': LIVE },
    status: 'warning',
    message: /another configuration \(https:\/\/issuer\)/,
    remedy: /^`systemctl reload hostcertd`$/,
  },
  {
    name: 'another program has its port',
    answers: { '/': LIVE },
    status: 'warning',
    message: /^another program answers at 127.*, so it is not known whether hostcertd runs$/,
    remedy:
      /^`ss -ltnp` shows which program it is: stop it, or set another health\.listen .*`systemctl status hostcertd` shows/,
  },
  {
    name: 'somebody accepts connections there and says nothing',
    answers: { '/status': null },
    status: 'warning',
    message:
      /^the program that listens at 127.* does not answer: hostcertd, which hangs, or another program$/,
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
  expect(of('daemon', findings)[0]?.message).toMatch(/^another program answers at /)
})
