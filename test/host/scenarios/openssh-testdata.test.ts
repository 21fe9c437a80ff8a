import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { isSignatureValid, parseCertificate } from '../../../agent/cert/host-certificate.ts'
import { parsePublicKeyLine, readPublicKey } from '../../../agent/cert/public-key.ts'
import { verifySignature } from '../../../agent/cert/signature.ts'
import { inspectFiles } from '../../../agent/cli/inspect.ts'
import { readSshsig } from '../../cert/sshsig.ts'
import { comparable, readListing } from '../../support/inspect-listing.ts'
import { command, tryCommand } from '../support/commands.ts'
import { debianMirror } from '../support/debian-mirror.ts'
import { baseRoot, describeOnEachRelease, type Release } from '../support/releases.ts'

const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'
/** OpenSSH has given up DSA, and a number of a key has this ending, too. */
const NO_KEY = /^dsa|\.param\.pub$/
/** A browser signs in another form, which is neither valid nor bad. */
const WEBAUTHN = 'ecdsa_sk_webauthn'

/** Against the keys, certificates and signatures of OpenSSH's unit tests, from the source package. */
describeOnEachRelease("the data of OpenSSH's own tests", (release) => {
  test('keys, certificates and signatures are read and verified', async (context) => {
    const root = baseRoot(release)
    const folder = await mkdtemp(join(root, 'tmp/hostcertd-'))
    try {
      const missing = await fetchSource(release, folder)
      context.skip(missing !== null, `no source of openssh: ${missing}`)
      const tests = join(folder, 'source/regress/unittests')

      const data = join(tests, 'sshkey/testdata')
      const keys = (await readdir(data)).filter((name) => name.endsWith('.pub') && !NO_KEY.test(name))
      const seen = new Set<string>()
      for (const file of keys) {
        const text = await readFile(join(data, file), 'utf8')
        // rsa_1_sha512 is rsa_1, signed otherwise.
        const name = file.replace(/_sha\d+/, '').replace(/\.pub$/, '.fp')
        const fingerprint = (await readFile(join(data, name), 'utf8')).trim()
        const isCertificate = file.endsWith('-cert.pub')
        const key = isCertificate ? parseCertificate(text).publicKey : readPublicKey(parsePublicKeyLine(text))
        seen.add(`${key.type}${isCertificate ? ' certificate' : ''}`)
        expect(key.fingerprint, file).toBe(fingerprint)
        if (!isCertificate) continue
        expect(isSignatureValid(parseCertificate(text)), file).toBe(true)
        const [entry] = await inspectFiles([join(data, file)])
        if (entry === undefined || 'error' in entry) throw new Error(`${file}: ${JSON.stringify(entry)}`)
        const inside = join(data, file).slice(root.length)
        const listing = await command(['chroot', root, 'env', 'TZ=UTC', 'ssh-keygen', '-L', '-f', inside])
        expect(comparable(entry), file).toEqual(readListing(listing))
      }
      console.log(`${release.title}: ${[...seen].toSorted((a, b) => a.localeCompare(b)).join(', ')}`)
      for (const type of ['sk-ssh-ed25519@openssh.com', 'sk-ecdsa-sha2-nistp256@openssh.com'])
        expect([...seen]).toEqual(expect.arrayContaining([type, `${type} certificate`]))

      const signatures = join(tests, 'sshsig/testdata')
      const names = (await readdir(signatures)).filter((name) => name.endsWith('.sig') && !NO_KEY.test(name))
      expect(names.length).toBeGreaterThanOrEqual(6)
      for (const file of names) {
        const name = file.replace(/\.sig$/, '')
        const key = readPublicKey(parsePublicKeyLine(await readFile(join(signatures, `${name}.pub`), 'utf8')))
        const { signature, signed } = readSshsig(await readFile(join(signatures, file), 'utf8'))
        expect(verifySignature(key, signature, signed), file).toBe(name === WEBAUTHN ? null : true)
        if (name === WEBAUTHN) continue
        expect(verifySignature(key, signature, Buffer.concat([signed, Buffer.of(0)])), file).toBe(false)
      }
    } finally {
      await rm(folder, { recursive: true, force: true })
    }
  })
})

/**
 * Unpack OpenSSH's sources of a release into `source` of a folder.
 *
 * @returns why the archive that this machine uses does not have them; null when it has
 * @throws when apt fails otherwise
 */
async function fetchSource({ suite }: Release, folder: string): Promise<string | null> {
  const [sources, lists, source] = ['sources.list', 'lists', 'source'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ]
  for (const path of [join(lists, 'partial'), source]) await mkdir(path, { recursive: true })
  await writeFile(sources, `deb-src [signed-by=${KEYRING}] ${await debianMirror()} ${suite} main\n`)
  const options = [
    `Dir::Etc::SourceList=${sources}`,
    'Dir::Etc::SourceParts=/dev/null',
    `Dir::State::Lists=${lists}`,
    'APT::Sandbox::User=root',
  ].flatMap((option) => ['--option', option])
  await command(['apt-get', '-qq', ...options, 'update'])
  const script = 'cd "$0" && exec apt-get -qq "$@" source --download-only --tar-only openssh'
  const fetched = await tryCommand(['sh', '-c', script, folder, ...options], {
    env: { ...process.env, LC_ALL: 'C' },
  })
  if (/ 404 |Unable to find a source package/.test(fetched.stderr)) return `${suite}: 404, or not listed`
  if (fetched.status !== 0) throw new Error(fetched.stderr)
  const archive = (await readdir(folder)).find((name) => /\.orig\.tar\.\w+$/.test(name)) ?? 'no archive'
  await command(['tar', '-xf', join(folder, archive), '-C', source, '--strip-components=1'])
  return null
}
