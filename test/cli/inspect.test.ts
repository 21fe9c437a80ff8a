import { execFile } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { formatInspection, inspectFiles, isEachSound } from '../../agent/cli/inspect.ts'
import {
  blobOf,
  type CertificateFields,
  type CraftedKey,
  craftCertificate,
  craftKey,
  lineOf,
  optionList,
  sshString,
  stringList,
  uint64,
} from '../cert/craft.ts'
import { keyIn } from '../cert/key-ring.ts'
import { generateKey, listCertificate, signCertificate } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder, type TemporaryFolder } from '../support/temporary-folder.ts'

const NOW = 1_795_438_800

let folder: TemporaryFolder
let ca: string
let key: string
let good: string
beforeAll(async () => {
  folder = await makeTemporaryFolder()
  ca = await generateKey(join(folder.path, 'ca'), 'ecdsa', 'ca')
  key = await generateKey(join(folder.path, 'key'), 'ed25519', 'key')
  const line = await signCertificate({
    ca: join(folder.path, 'ca'),
    publicKey: key,
    keyId: 'host-8c1efcfc',
    principals: ['web1.example.com', 'web1'],
    validity: `0x${(NOW - 59).toString(16)}:0x${(NOW + 12 * 86_400 + 3600).toString(16)}`,
    serial: 2n ** 63n + 1n,
    options: ['extension:note@example.com=two words', 'extension:flag'],
  })
  good = await put('good-cert.pub', `${line}\n`)
})
afterAll(() => folder.remove())

async function put(name: string, content: string): Promise<string> {
  const file = join(folder.path, name)
  await writeFile(file, content)
  return file
}

async function putCrafted(name: string, changed: Partial<CertificateFields>): Promise<string> {
  return put(name, craftCertificate(craftKey(), craftKey(), changed))
}

test('lines that begin with # are comments, as for ssh-keygen -L', async () => {
  const commented = await put(
    'commented-cert.pub',
    `# made by hand\n${await readFile(good, 'utf8')}\n  # the end\n`,
  )
  const [entry] = await inspectFiles([commented])
  expect(entry).toMatchObject({ key_id: 'host-8c1efcfc', signature_valid: true })
})

test('every key of the interface, in its order', async () => {
  const entries = await inspectFiles([good])
  expect(JSON.parse(JSON.stringify(entries))).toEqual([
    {
      file: good,
      type: 'host',
      key_type: 'ssh-ed25519',
      key_id: 'host-8c1efcfc',
      serial: '9223372036854775809',
      valid_after: '2026-11-23T12:59:01Z',
      valid_before: '2026-12-05T14:00:00Z',
      principals: ['web1.example.com', 'web1'],
      critical_options: {},
      extensions: { 'note@example.com': 'two words', flag: '' },
      public_key_fingerprint: keyIn(key).fingerprint,
      ca_key_type: 'ecdsa-sha2-nistp256',
      ca_fingerprint: keyIn(ca).fingerprint,
      signature_algorithm: 'ecdsa-sha2-nistp256',
      signature_valid: true,
    },
  ])
  expect(Object.keys(entries[0] ?? {}).join()).toBe(
    'file,type,key_type,key_id,serial,valid_after,valid_before,principals,critical_options,extensions,' +
      'public_key_fingerprint,ca_key_type,ca_fingerprint,signature_algorithm,signature_valid',
  )
  expect(isEachSound(entries)).toBe(true)
})

test('a signature of a type that came after this program: read, and neither valid nor bad', async () => {
  const type = 'ssh-mldsa65-ed25519'
  const ofLater: CraftedKey = {
    blob: Buffer.concat([sshString(type), sshString('a key')]),
    line: '',
    signs: () => Buffer.concat([sshString(type), sshString('signed')]),
  }
  const file = await put('later-cert.pub', craftCertificate(craftKey(), ofLater))
  const entries = await inspectFiles([file])
  expect(entries).toMatchObject([{ signature_valid: null, ca_key_type: type, key_id: 'crafted' }])
  expect(isEachSound(entries)).toBe(false)
  expect(formatInspection(entries)).toContain(`signature   ${type}, NOT VERIFIED`)
})

test('a damaged signature: told, not sound, and ssh-keygen refuses it as well', async () => {
  const blob = blobOf(craftCertificate(craftKey(), craftKey()))
  blob[blob.length - 1] = (blob.at(-1) ?? 0) ^ 1
  const file = await put('bad-signature-cert.pub', lineOf(blob))
  const entries = await inspectFiles([good, file])
  expect(entries[1]).toMatchObject({ signature_valid: false, key_id: 'crafted' })
  expect(isEachSound(entries)).toBe(false)
  expect(formatInspection(entries)).toContain('signature   ssh-ed25519, INVALID')
  await expect(listCertificate(file)).rejects.toThrow('incorrect signature')
})

test('what cannot be read or parsed is an entry of its own, and the others are still there', async () => {
  await mkdir(join(folder.path, 'folder'))
  const large = await put('large', 'x'.repeat(70_000))
  const two = await put('two', 'a\nb\n')
  const files = ['missing', 'folder', 'key.pub'].map((name) => join(folder.path, name))
  const entries = await inspectFiles([...files, large, two, good])
  const unparsable = (message: string) => ({
    code: 'CERT_UNPARSABLE',
    message: expect.stringContaining(message) as string,
  })
  expect(entries).toEqual([
    { file: files[0], error: unparsable('ENOENT') },
    { file: files[1], error: unparsable('EISDIR') },
    { file: files[2], error: unparsable('"ssh-ed25519" is not a certificate type') },
    { file: large, error: unparsable('over 65536 bytes') },
    { file: two, error: unparsable('2 lines') },
    expect.objectContaining({ file: good, signature_valid: true }),
  ])
  expect(isEachSound(entries)).toBe(false)
  expect(formatInspection(entries)).toContain(
    `${two}:\n  CERT_UNPARSABLE not an OpenSSH certificate: 2 lines`,
  )
})

test('- is standard input', async () => {
  const script = `import { inspectFiles } from '${new URL('../../agent/cli/inspect.ts', import.meta.url).href}'
    console.log(JSON.stringify(await inspectFiles(['-'])))`
  const child = promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script])
  child.child.stdin?.end(craftCertificate(craftKey(), craftKey()))
  expect(JSON.parse((await child).stdout)).toMatchObject([
    { file: '-', key_id: 'crafted', signature_valid: true },
  ])
})

test('no files, no entries', async () => {
  expect(await inspectFiles([])).toEqual([])
  expect(isEachSound([])).toBe(true)
})

describe('for people', () => {
  test('a block of aligned lines', async () => {
    const text = formatInspection(await inspectFiles([good]), NOW)
    expect(text).toBe(`${good}:
  type        host certificate
  key         ssh-ed25519 ${keyIn(key).fingerprint}
  key id      "host-8c1efcfc"
  serial      9223372036854775809
  validity    from 2026-11-23T12:59:01Z to 2026-12-05T14:00:00Z (expires in 12d 1h)
  principals  web1.example.com, web1
  extensions  flag, note@example.com="two words"
  CA          ecdsa-sha2-nistp256 ${keyIn(ca).fingerprint}
  signature   ecdsa-sha2-nistp256, valid`)
  })

  test.each([
    { name: 'no clock, no hint', now: undefined, after: 0n, before: 60n, says: 'to 1970-01-01T00:01:00Z' },
    { name: 'ended', now: 3660, after: 0n, before: 60n, says: '(expired 1h ago)' },
    { name: 'ends now', now: 60, after: 0n, before: 60n, says: '(expired 0s ago)' },
    { name: 'not yet', now: 10, after: 40n, before: 60n, says: '(starts in 30s)' },
    {
      name: 'forever',
      now: 10,
      after: 0n,
      before: 2n ** 64n - 1n,
      says: 'from 1970-01-01T00:00:00Z forever',
    },
    { name: 'past 9999', now: 10, after: 0n, before: 2n ** 40n, says: 'to +36812-02-20T00:36:16Z' },
  ])('validity: $name', async ({ now, after, before, says }) => {
    const file = await putCrafted('times', { validAfter: uint64(after), validBefore: uint64(before) })
    const row = formatInspection(await inspectFiles([file]), now)
      .split('\n')
      .find((line) => line.includes('validity'))
    expect(row?.endsWith(says)).toBe(true)
  })

  test('no principals is said aloud', async () => {
    const file = await putCrafted('nobody', { principals: stringList([]) })
    expect(formatInspection(await inspectFiles([file]))).toContain('principals  none: valid for any name')
  })

  test('nothing in a certificate steers the terminal', async () => {
    const evil = '\u001B[2J\u202E\u0085\n'
    const file = await putCrafted('evil', {
      keyId: sshString(evil),
      principals: stringList([evil, 'a, b']),
      criticalOptions: optionList({ [evil]: evil }),
    })
    const text = formatInspection(await inspectFiles([file, evil]))
    expect(text.replaceAll('\n', '')).not.toMatch(/[\p{Cc}\p{Cf}]/u)
    expect(text).toContain(String.raw`"\u001b[2J\u202e\u0085\n", "a, b"`)
    expect(text).toContain('critical    "\\u001b')
  })
})
