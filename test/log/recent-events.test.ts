import { expect, test } from 'vitest'
import { rememberRecent } from '../../agent/log/recent-events.ts'
import { RecordingLog } from '../fakes/recording-log.ts'

const NOW = 1_795_438_800

test('the last events are kept, the newest first, and no more than fit', () => {
  const inner = new RecordingLog()
  const log = rememberRecent(inner, () => NOW, 3)
  for (const word of ['one', 'two', 'three', 'four']) log.info({}, word)
  log.debug({}, 'not an event')
  expect(log.recent().map(({ message }) => message)).toEqual(['four', 'three', 'two'])
  expect(inner.lines.map(({ message }) => message)).toEqual(['one', 'two', 'three', 'four', 'not an event'])
})

test('an event is what a person needs, without the other fields', () => {
  const log = rememberRecent(new RecordingLog(), () => NOW)
  const fields = {
    host_key: 'k',
    code: 'ISSUER_BUSY',
    serial: '7',
    request_id: 'req-1',
    retry_in_seconds: 30,
    token: 'secret',
  }
  log.warn(fields, 'busy')
  log.error({ host_keys: ['a', 'b', 3], code: 5, error: new Error('x') }, 'worse')
  expect(log.recent()).toEqual([
    {
      at: '2026-11-23T13:00:00Z',
      level: 'error',
      message: 'worse',
      hostKeys: ['a', 'b'],
      code: null,
      serial: null,
      requestId: null,
      retryInSeconds: null,
    },
    {
      at: '2026-11-23T13:00:00Z',
      level: 'warn',
      message: 'busy',
      hostKeys: ['k'],
      code: 'ISSUER_BUSY',
      serial: '7',
      requestId: 'req-1',
      retryInSeconds: 30,
    },
  ])
})

test('what looks like a credential is not kept, nor endless texts', () => {
  const log = rememberRecent(new RecordingLog(), () => NOW)
  log.info({ request_id: 'Bearer abc.def' }, `login failed: client_secret=hunter2 ${'x'.repeat(9000)}`)
  const [event] = log.recent()
  expect(JSON.stringify(event)).not.toMatch(/hunter2|abc\.def/)
  expect(event?.message.length).toBeLessThan(600)
})

test('what is handed out does not change later', () => {
  const log = rememberRecent(new RecordingLog(), () => NOW)
  log.info({}, 'one')
  const before = log.recent()
  log.info({}, 'two')
  expect(before).toHaveLength(1)
})
