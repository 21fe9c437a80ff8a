import { describe, expect, test } from 'vitest'
import type { Config } from '../../agent/config/config.ts'
import { configOf, LEAST, loadFiles } from './config-folder.ts'
import { INTERFACE_EXAMPLE } from './interface-example.ts'

async function read(text: string, environment: Readonly<Record<string, string>> = {}): Promise<Config> {
  return configOf(await loadFiles({ 'hostcertd.yaml': text }, environment, false))
}

describe('the example of the interface', () => {
  test('word for word', async () => {
    expect(await read(INTERFACE_EXAMPLE, { CREDENTIALS_DIRECTORY: '/run/c' })).toEqual({
      issuer: {
        kind: 'http',
        url: 'https://us.infisical.com',
        sshHostId: '8c1efcfc-434c-4c43-80e3-53c9eae6672a',
        caFile: '/etc/hostcertd/tls-ca.pem',
        timeoutMilliseconds: 30_000,
        auth: {
          method: 'universal-auth',
          organization: null,
          clientId: { value: '41ea2756-88ac-43bf-8929-42b71ec7742e' },
          clientSecretFile: '/run/c/hostcertd_client-secret',
        },
      },
      hostKeys: ['/etc/ssh/ssh_host_*_key.pub'],
      certificates: { directory: '/var/lib/hostcertd/certs' },
      renewal: {
        window: { kind: 'share', ratio: 0.33 },
        jitterRatio: 0.5,
        tick: '* * * * *',
        tickGapSeconds: 60,
        maintenance: '* * * * *',
      },
      verify: { hostCaFile: '/etc/hostcertd/host-ca.pub', principals: ['web1.example.com'] },
      sshd: { address: 'auto', reload: 'auto', reloadCommand: ['/usr/local/sbin/reload-sshd'] },
      health: { listen: { kind: 'tcp', host: '127.0.0.1', port: 9847 }, hosts: [] },
      log: { level: 'info', format: 'auto' },
      stateDirectory: '/var/lib/hostcertd',
      enrollment: { onCopy: 'warn' },
      userCa: { install: false, overlapSeconds: 14 * 86_400, fingerprints: [], revoked: [] },
    })
  })

  test('with the client id in a file', async () => {
    const text = INTERFACE_EXAMPLE.replace(/client_id: \S+/, 'client_id_file: credential:client-id')
    const { issuer } = await read(text, { CREDENTIALS_DIRECTORY: '/run/c' })
    expect(issuer).toMatchObject({ auth: { clientId: { file: '/run/c/hostcertd_client-id' } } })
  })

  test('with a token', async () => {
    const text = INTERFACE_EXAMPLE.replace('method: universal-auth', 'method: token')
      .replace(/ {2}client_id:.*\n/, '')
      .replace('client_secret_file: credential:client-secret', 'token_file: /run/token')
    const { issuer } = await read(text)
    expect(issuer).toMatchObject({ auth: { method: 'token', tokenFile: '/run/token' } })
  })

  test('with http:// for a loopback address', async () => {
    const text = INTERFACE_EXAMPLE.replace('https://us.infisical.com', 'http://127.0.0.1:8080/')
    const { issuer } = await read(text)
    expect(issuer).toMatchObject({ url: 'http://127.0.0.1:8080' })
  })
})

test('what is left out has its default', async () => {
  const config = configOf(await loadFiles({ 'hostcertd.yaml': LEAST }))
  expect(config).toMatchObject({
    issuer: { caFile: null, timeoutMilliseconds: 30_000 },
    certificates: { directory: '/var/lib/hostcertd/certs' },
    verify: { principals: null },
    sshd: { address: 'auto', reload: 'auto', reloadCommand: null },
    stateDirectory: '/var/lib/hostcertd',
  })
})
