import { connect, type Socket } from 'node:net'
import { expect, test } from 'vitest'
import { untilReady } from '../support/looks.ts'
import { makeWorld, type World } from '../support/world.ts'

const IDLE_CONNECTIONS = 200
/** More than a renewal takes on a busy machine, less than any harm. */
const NO_DELAY_SECONDS = 5
const IN_PLACE = 'a new certificate is installed'

/** Connections to the health port, each opened anew whenever it is closed. */
class Crowd implements Disposable {
  readonly #port: number
  readonly #sockets = new Set<Socket>()
  #isOver = false

  constructor(port: number) {
    this.#port = port
  }

  /** @param greeting sent once connected; the answer is never read */
  join(greeting: string): void {
    const socket = connect(this.#port, '127.0.0.1')
    this.#sockets.add(socket)
    if (greeting === '') socket.resume()
    else socket.pause()
    socket.on('error', () => {})
    socket.once('connect', () => socket.write(greeting))
    socket.once('close', () => {
      this.#sockets.delete(socket)
      // Not at once: a crowd that keeps both sides busy with connecting alone would be another test.
      if (!this.#isOver) setTimeout(() => this.#isOver || this.join(greeting), 250)
    })
  }

  get size(): number {
    return [...this.#sockets].filter(({ readyState }) => readyState === 'open').length
  }

  [Symbol.dispose](): void {
    this.#isOver = true
    for (const socket of this.#sockets) socket.destroy()
  }
}

/** How long after it fell due the next renewal was done, in seconds. */
async function nextRenewal({ agent }: World): Promise<number> {
  let before = { serial: '', due: Number.NaN }
  await agent.waitFor('a certificate that is not due yet', async () => {
    const [certificate] = (await agent.status())?.certificates ?? []
    // The log knows of a renewal a little before the status document does.
    const newest = agent.log.findLast(({ msg }) => msg === IN_PLACE)
    if (certificate?.state !== 'valid' || certificate.serial !== newest?.['serial']) return false
    before = { serial: certificate.serial ?? '', due: Date.parse(certificate.renewal_due ?? '') / 1000 }
    return true
  })
  const from = agent.log.length
  const isRenewal = ({ msg, serial }: World['agent']['log'][number]): boolean =>
    msg === IN_PLACE && serial !== before.serial
  await agent.waitFor('a renewal', () => agent.log.slice(from).some(isRenewal), 40)
  const line = agent.log.slice(from).find(isRenewal)
  return Date.parse(String(line?.['time'])) / 1000 - before.due
}

test('200 idle connections and a slow reader on the health port do not delay a renewal', async () => {
  await using world = await makeWorld({ ttlSeconds: 20, sshd: { hostKeyTypes: ['ed25519'] } })
  await world.agent.start()
  await untilReady(world)
  const alone = await nextRenewal(world)

  using crowd = new Crowd(world.agent.healthPort)
  for (let i = 0; i < IDLE_CONNECTIONS; i += 1) crowd.join('')
  crowd.join('GET / HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(100))
  await world.agent.waitFor('the crowd is there', () => crowd.size >= 60)
  const among = await nextRenewal(world)
  expect(among).toBeLessThan(alone + NO_DELAY_SECONDS)
  expect(crowd.size).toBeGreaterThanOrEqual(50)
  // And a monitor still gets in.
  expect((await world.agent.health('/livez')).status).toBe(200)
}, 120_000)
