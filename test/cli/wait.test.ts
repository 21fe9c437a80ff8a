import { createServer } from 'node:net'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { freePort } from '../support/private-sshd/process.ts'
import { ED25519, makeBareHost } from './bare-host.ts'

const MISSING = /^not every certificate is served after 0s: ssh_host_ed25519_key is absent\n$/

test.concurrent('0 at once when all is well', async () => {
  await using host = await makeBareHost()
  await host.certify(ED25519)
  expect(await host.verb(['wait', '--timeout', '30s'])).toEqual({ status: 0, stdout: '', stderr: '' })
})

test.concurrent('1 on time-out, with what is missing', async () => {
  await using host = await makeBareHost()
  const { status, stdout, stderr } = await host.verb(['wait', '--timeout', '0s'])
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
  expect(stderr).toMatch(MISSING)
})

test.concurrent('0 as soon as it is there', async () => {
  await using host = await makeBareHost()
  const waiting = host.verb(['wait', '--timeout', '60s'])
  await sleep(1_500)
  await host.certify(ED25519)
  expect(await waiting).toMatchObject({ status: 0 })
})

test.concurrent('a longer time than a timer can have is no time at all nowhere', async () => {
  await using host = await makeBareHost()
  await host.certify(ED25519)
  const result = await host.verb(['wait', '--timeout', '999999999d'])
  expect(result).toEqual({ status: 0, stdout: '', stderr: '' })
})

test.concurrent('without an answer of sshd nothing is served', async () => {
  await using host = await makeBareHost({ sshd: { address: `127.0.0.1:${await freePort()}` } })
  await host.certify(ED25519)
  expect(await host.verb(['wait', '--timeout', '2s'])).toMatchObject({ status: 1, stdout: '' })
})

test.concurrent('a daemon that accepts and never answers does not outlast the time-out', async () => {
  const server = createServer(() => {}).listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    const address = server.address()
    const port = typeof address === 'object' ? address?.port : undefined
    await using host = await makeBareHost({ health: { listen: `127.0.0.1:${port}` } })
    const result = await host.verb(['wait', '--timeout', '1s'])
    expect(result).toEqual({
      status: 1,
      stdout: '',
      stderr: 'not every certificate is served after 1s: nothing could be seen in that time\n',
    })
  } finally {
    server.close()
  }
})
