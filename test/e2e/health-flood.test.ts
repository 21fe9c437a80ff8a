import { spawn } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { HEALTH_LIMITS } from '../../agent/health/server.ts'
import { ask } from '../support/health-server.ts'
import { makeWorld } from '../support/world.ts'

/** As in hostcertd.service, whose MemoryMax is 256M; with the rest of its command the daemon runs in all tests. */
const ENVIRONMENT = { MALLOC_ARENA_MAX: '1', MALLOC_TRIM_THRESHOLD_: '65536' }
const MOST_MEBIBYTES = 140
const FLOOD_SECONDS = 12
const CONNECTIONS = 8
const EVERY_MILLISECONDS = 100

test.each([
  { name: '95 requests for the page at once', requests: 95 },
  {
    name: 'as many requests for the page as a connection may have waiting',
    requests: HEALTH_LIMITS.outstanding,
  },
])('a local user who sends $name and never reads costs little memory', async ({ requests }) => {
  await using world = await makeWorld({ environment: ENVIRONMENT })
  const { agent } = world
  await agent.start()
  using _ = flood(agent.healthPort, requests)
  const waits: number[] = []
  for (let i = 0; i < FLOOD_SECONDS; i++) {
    await sleep(1000)
    const since = performance.now()
    const ready = await Promise.race([ask({ port: agent.healthPort }, '/readyz'), sleep(10_000)])
    waits.push(performance.now() - since)
    expect(ready?.status).toBe(200)
  }
  const peak = await peakMebibytes(agent.pid)
  console.log(
    `resident at most ${peak.toFixed(0)} MiB, answered in ${Math.max(...waits).toFixed(0)} ms at most`,
  )
  expect(peak).toBeLessThan(MOST_MEBIBYTES)
  expect(Math.max(...waits)).toBeLessThan(8000)
  expect(agent.running).toBe(true)
})

/** Connections, each with so many requests at once, from a process of its own until the test is over. */
function flood(port: number, requests: number): Disposable {
  const script = `
    const sockets = new Set()
    process.stdin.on('end', () => process.exit()).resume()
    setInterval(() => {
      for (let i = 0; i < ${CONNECTIONS}; i++) {
        const socket = require('net').connect(${port}, '127.0.0.1')
        socket.on('error', () => {}).pause()
        socket.write('GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n'.repeat(${requests}))
        sockets.add(socket)
        socket.once('close', () => sockets.delete(socket))
      }
    }, ${EVERY_MILLISECONDS})`
  const child = spawn(process.execPath, ['--eval', script], { stdio: ['pipe', 'inherit', 'inherit'] })
  return { [Symbol.dispose]: () => void child.kill('SIGKILL') }
}

async function peakMebibytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1]) / 1024
}
