import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TlsCertificate } from './local-issuer/tls-certificate.ts'

/**
 * OpenSSL's own server, which requires a client certificate: unlike Node's, it says by an alert why it refuses one.
 *
 * @param folder for its files
 * @param version `-tls1_2`
 */
export async function startOpensslServer(
  folder: string,
  { certificate, key }: TlsCertificate,
  clientCa: string,
  version: string,
): Promise<AsyncDisposable & { readonly url: string }> {
  const [own, accepted] = [join(folder, 'openssl-server.pem'), join(folder, 'openssl-clients.pem')]
  await writeFile(own, certificate + key)
  await writeFile(accepted, clientCa)
  const options = `-accept 127.0.0.1:0 ${version} -Verify 5 -verify_return_error`.split(' ')
  const server = spawn('openssl', ['s_server', ...options, '-cert', own, '-CAfile', accepted], {
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  const exited = once(server, 'exit')
  let said = ''
  for await (const part of server.stdout.iterator({ destroyOnReturn: false })) {
    said += String(part)
    if (/^ACCEPT .*\n/m.test(said)) break
  }
  server.stdout.resume()
  return {
    url: `https://127.0.0.1:${/^ACCEPT .*:(\d+)$/m.exec(said)?.[1]}`,
    async [Symbol.asyncDispose]() {
      server.kill('SIGKILL')
      await exited
    },
  }
}
