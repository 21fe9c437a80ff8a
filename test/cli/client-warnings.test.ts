import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { UPPER_CASE } from '../../agent/cert/errors.ts'
import { parseCertificate } from '../../agent/cert/host-certificate.ts'
import { publicKeyText } from '../../agent/cert/public-key.ts'
import { ED25519, makeBareHost } from './bare-host.ts'

const UPPER = 'WEB1.example.com'
const WARNING = `ssh looks for host names in lower case, so no client accepts the certificate for "${UPPER}"`

test.each([
  { verb: ['config', 'validate'], shown: `verify.principals: ${WARNING}` },
  { verb: ['status'], shown: `${WARNING} -> ${UPPER_CASE.remedy}` },
  { verb: ['ca', 'show'], shown: WARNING },
  { verb: ['inspect'], shown: WARNING },
])('names with upper-case letters are warned of: $verb', async ({ verb, shown }) => {
  const of = async (principals: readonly string[]): Promise<string> => {
    const verify = (folder: string) => ({ host_ca_file: `${folder}/ca.pub`, principals })
    await using host = await makeBareHost()
    await host.configure({ verify: verify(host.folder) })
    await host.certify(ED25519, { principals })
    const files = verb[0] === 'inspect' ? [host.certificatePath(ED25519)] : []
    const { status, stdout, stderr } = await host.verb([...verb, ...files])
    expect(status).toBe(0)
    return `${stdout}${stderr}`.replaceAll(/\s+/g, ' ')
  }
  expect(await of([UPPER, 'web1.example.com'])).toContain(shown)
  expect(await of(['web1.example.com'])).not.toContain('lower case')
})

test('ca show warns of a CA that clients accept only by a setting of their own', async () => {
  const signed = new URL(
    '../fixtures/openssh/10.6p1/key-types/ed25519-by-mldsa44-ed25519-cert.pub',
    import.meta.url,
  )
  const { ca } = parseCertificate(await readFile(signed, 'utf8'))
  await using host = await makeBareHost()
  const pinned = join(host.folder, 'post-quantum.pub')
  await writeFile(pinned, `${publicKeyText(ca)}\n`)
  await host.configure({ verify: { host_ca_file: pinned, principals: ['web1.example.com'] } })
  const { status, stdout, stderr } = await host.verb(['ca', 'show'])
  expect({ status, stdout, stderr }).toEqual({
    status: 0,
    stdout: expect.stringContaining(publicKeyText(ca)) as string,
    stderr: `warning: the CA ${ca.fingerprint} is a post-quantum key: only clients with CASignatureAlgorithms=+ssh-mldsa44-ed25519 accept its certificates\n`,
  })
})
