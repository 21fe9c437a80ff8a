import { expect, test } from 'vitest'
import { ED25519, makeBareHost } from './bare-host.ts'

const UPPER = 'WEB1.example.com'
const WARNING = `ssh looks for host names in lower case, so no client accepts the certificate for "${UPPER}"`

test.each([
  { verb: ['config', 'validate'], shown: `verify.principals: ${WARNING}` },
  { verb: ['status'], shown: WARNING },
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
