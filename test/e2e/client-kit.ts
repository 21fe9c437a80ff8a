import { chmod, mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { hostcertd } from '../cli/hostcertd.ts'
import { openSshOf } from '../host/support/base-roots.ts'
import { command, type Outcome, tryCommand } from '../host/support/commands.ts'
import { type PrivateSshd, startPrivateSshd } from '../support/private-sshd.ts'
import { generateKey, signCertificate } from '../support/ssh-keygen.ts'
import { makeTemporaryFolder } from '../support/temporary-folder.ts'

const ID = '8c1efcfc-434c-4c43-80e3-53c9eae6672a'
const VERIFIED = { status: 0, stderr: '' }
const UNKNOWN = { status: 255, stderr: expect.stringContaining('Host key verification failed.') as string }

/**
 * What `ca show` and `krl` print, with real clients. Root gives them an /etc/hosts of their own, in a mount namespace.
 *
 * @param root the root file system whose ssh and ssh-keygen are the clients'; stays as it is
 */
export function testClientKit(root: string): void {
  const stack = new AsyncDisposableStack()
  let folder: string
  let config: string
  let client: Client
  /** With the client's ssh-keygen, which makes the lists of `krl`. */
  let environment: Record<string, string>
  let host: PrivateSshd

  beforeAll(async () => {
    folder = stack.use(await makeTemporaryFolder('/tmp')).path
    await generateKey(join(folder, 'ca1'), 'ed25519')
    // Of the same type, and one that is no line of the other's.
    const cas = ['ca1', 'ca2', 'ca3']
    for (const ca of cas.slice(1)) await generateKey(join(folder, ca), ca === 'ca3' ? 'rsa' : 'ed25519')
    const sshds = new Map<string, PrivateSshd>()
    for (const [index, ca] of cas.entries()) {
      const hostname = `web${index + 1}.example.com`
      const sshd = stack.use(await startHost(join(folder, hostname), hostname, join(folder, ca)))
      sshds.set(hostname, sshd)
    }
    const [first] = sshds.values()
    if (first === undefined) throw new Error('there is no host')
    host = first
    client = await makeClient(root, join(folder, 'client'), sshds)
    const words = client.program('ssh-keygen').map((word) => `'${word}'`)
    await mkdir(join(folder, 'programs'))
    await writeFile(join(folder, 'programs/ssh-keygen'), `#!/bin/sh\nexec ${words.join(' ')} "$@"\n`, {
      mode: 0o755,
    })
    environment = { PATH: `${join(folder, 'programs')}:${process.env['PATH']}` }
    const pinned = await Promise.all(
      ['ca1', 'ca2'].map(async (ca) => readFile(join(folder, `${ca}.pub`), 'utf8')),
    )
    await writeFile(join(folder, 'cas.pub'), pinned.join(''))
    config = await configure('hostcertd.yaml', { verify: { host_ca_file: join(folder, 'cas.pub') } })
  })
  afterAll(async () => stack.disposeAsync())

  async function configure(name: string, sections: object): Promise<string> {
    const path = join(folder, name)
    const usual = {
      issuer: { url: 'http://127.0.0.1:1', ssh_host_id: ID },
      auth: { method: 'token', token_file: join(folder, 'token') },
      host_keys: host.hostKeysPattern,
      certificates: { directory: host.certificateDirectory },
      sshd: { address: 'none', reload: 'never' },
      health: { listen: 'none' },
      state_directory: join(folder, 'state'),
    }
    await writeFile(path, JSON.stringify({ ...usual, ...sections }))
    return path
  }

  async function shown(...options: readonly string[]): Promise<string> {
    const result = await hostcertd(['ca', 'show', '--config', config, ...options])
    expect(result).toMatchObject({ status: 0, stderr: '' })
    return result.stdout
  }

  /** Hosts of both pinned CAs are verified, and one of a third is not. */
  async function expectVerified(lines: readonly string[], names: readonly string[] = []): Promise<void> {
    for (const name of ['web1.example.com', 'web2.example.com', ...names])
      expect(await client.connect(name, lines), name).toMatchObject(VERIFIED)
    expect(await client.connect('web3.example.com', lines)).toMatchObject(UNKNOWN)
  }

  test('the programs are those of the root file system', async () => {
    expect((await tryCommand(client.program('ssh', '-V'))).stderr.trim()).toBe(await openSshOf(root))
  })

  test('known-hosts, at a port that the line does not name', async () => {
    const file = await client.write('known_hosts', await shown())
    expect(await readFile(file, 'utf8')).toMatch(
      /^(?:@cert-authority \*\.example\.com ssh-ed25519 \S+\n){2}$/,
    )
    await expectVerified([`UserKnownHostsFile ${file}`])
    expect(await client.connect('web1.example.com', [])).toMatchObject(UNKNOWN)
  })

  test('ssh-config, by the short name too, and by a name that is in no certificate', async () => {
    const snippet = await shown('--format', 'ssh-config')
    await expectVerified([snippet], ['web1'])
    const alias = snippet
      .replace(/^Host .*/m, '$& other')
      .replace('#Host 192.0.2.7', 'Host other')
      .replace(/^# {4}HostKeyAlias/m, '    HostKeyAlias')
    await expectVerified([alias], ['other'])
    expect(await client.connect('other', [snippet])).toMatchObject(UNKNOWN)
  })

  test('ssh-config included in a file leaves its other hosts alone', async () => {
    const file = await client.write('hostcertd.conf', await shown('--format', 'ssh-config'))
    const settings = await client.settings('elsewhere.example.org', [`Include ${file}`, 'Port 2222'])
    expect(settings).toContain('port 2222')
    expect(settings).not.toContain('knownhostscommand')
  })

  test('known-hosts-command', async () => {
    const file = await client.write('known-hosts', await shown('--format', 'known-hosts-command'))
    await chmod(file, 0o755)
    await expectVerified([`KnownHostsCommand ${file}`])
  })

  test('ansible: the lines that its module writes', async () => {
    const { hostcertd_known_hosts: entries } = parse(await shown('--format', 'ansible')) as {
      hostcertd_known_hosts: { name: string; key: string }[]
    }
    expect(entries).toHaveLength(2)
    const file = await client.write('of-ansible', entries.map(({ key }) => `${key}\n`).join(''))
    await expectVerified([`UserKnownHostsFile ${file}`])
    for (const { name } of entries)
      expect(await command(client.program('ssh-keygen', '-F', name, '-f', file))).toContain('@cert-authority')
  })

  test('json', async () => {
    const text = await shown('--json')
    expect(await shown('--format', 'json')).toBe(text)
    const { hosts, cas } = JSON.parse(text) as {
      hosts: string[]
      cas: { fingerprint: string; known_hosts: string; public_key: string }[]
    }
    expect(hosts).toEqual(['*.example.com'])
    expect(cas).toHaveLength(2)
    for (const { fingerprint, public_key } of cas)
      expect(
        await command(client.program('ssh-keygen', '-l', '-f', '-'), { input: `${public_key}\n` }),
      ).toContain(fingerprint)
    const file = await client.write('of-json', cas.map((ca) => `${ca.known_hosts}\n`).join(''))
    await expectVerified([`UserKnownHostsFile ${file}`])
  })

  test('--hosts: for these, and for no others', async () => {
    const file = await client.write('named', await shown('--hosts', 'web2.example.com,*.example.net'))
    expect(await client.connect('web2.example.com', [`UserKnownHostsFile ${file}`])).toMatchObject(VERIFIED)
    expect(await client.connect('web1.example.com', [`UserKnownHostsFile ${file}`])).toMatchObject(UNKNOWN)
    // A line `Host` counts only for names in the case in which it is written.
    const snippet = await shown('--format', 'ssh-config', '--hosts', 'WEB2.Example.com')
    expect(await client.connect('web2.example.com', [snippet])).toMatchObject(VERIFIED)
  })

  test('nothing pinned: the CA of the certificate in place, with a warning', async () => {
    const unpinned = await configure('unpinned.yaml', {})
    const { status, stdout, stderr } = await hostcertd(['ca', 'show', '--config', unpinned])
    expect(status).toBe(0)
    expect(stderr).toMatch(
      /^warning: verify\.host_ca_file pins no CA; .*certificates in place.*: SHA256:\S+\n$/,
    )
    const file = await client.write('unpinned', stdout)
    expect(await client.connect('web1.example.com', [`UserKnownHostsFile ${file}`])).toMatchObject(VERIFIED)
    expect(await client.connect('web2.example.com', [`UserKnownHostsFile ${file}`])).toMatchObject(UNKNOWN)
  })

  test.each([
    { pins: false, says: 'no host CA is known yet: pin it in verify.host_ca_file' },
    { pins: true, says: 'no certificate names this host yet: name the hosts by --hosts PATTERN' },
  ])('without a certificate, a CA pinned: $pins', async ({ pins, says }) => {
    const bare = await configure('bare.yaml', {
      certificates: { directory: join(folder, 'none') },
      ...(pins ? { verify: { host_ca_file: join(folder, 'cas.pub') } } : {}),
    })
    const result = await hostcertd(['ca', 'show', '--config', bare])
    expect(result).toMatchObject({ status: 1, stdout: '' })
    expect(result.stderr).toContain(says)
  })

  test('a known plain key is trusted without the certificate, unless only the CA counts', async () => {
    const snippet = await shown('--format', 'ssh-config')
    const key = await readFile(join(folder, 'web3.example.com', 'ssh_host_ed25519_key.pub'), 'utf8')
    const known = await client.write('plain', `web3.example.com ${key}`)
    const plain = `Host *\n    UserKnownHostsFile ${known}`
    expect(await client.connect('web3.example.com', [plain, snippet])).toMatchObject(VERIFIED)
    const document = await readFile(resolve('docs/clients.md'), 'utf8')
    const strict = /```\n(Host [^]*?)```/.exec(document)?.[1] ?? ''
    expect(strict).toContain('UserKnownHostsFile none')
    expect(await client.connect('web3.example.com', [strict, plain, snippet])).toMatchObject(UNKNOWN)
    expect(await client.connect('web1.example.com', [strict, plain, snippet])).toMatchObject(VERIFIED)
    const saidOf = async (name: string): Promise<string> =>
      (await client.connect(name, ['LogLevel DEBUG1', plain, snippet])).stderr
    // The command that docs/clients.md gives; sshd presents a certificate in both cases.
    const pattern = new RegExp(/^`ssh -v .*grep -E '(.*)'`/m.exec(document)?.[1] ?? 'no such command')
    const seen = async (name: string): Promise<readonly string[]> => {
      const lines = (await saidOf(name)).split('\n')
      expect(lines).toContainEqual(expect.stringContaining('Server host certificate: '))
      return lines.filter((line) => pattern.test(line))
    }
    expect(await seen('web1.example.com')).toEqual([
      expect.stringMatching(/ is known and matches the \S+ host certificate/) as string,
    ])
    expect(await seen('web3.example.com')).toEqual([
      expect.stringMatching(/ is known and matches the \S+ host key/) as string,
    ])
  })

  describe('krl', () => {
    async function revocationList(name: string, ...options: readonly string[]): Promise<string> {
      const file = join(folder, 'client', name)
      const result = await hostcertd(['krl', file, ...options], { environment })
      expect(result).toMatchObject({ status: 0, stdout: '' })
      expect(result.stderr).toContain('if that file is missing, ssh refuses every host')
      expect((await stat(file)).mode & 0o777).toBe(0o644)
      return file
    }

    test('revokes every certificate of this host, whatever its key, and of no other', async () => {
      const list = await revocationList('revoked', '--config', config)
      expect(await command(client.program('ssh-keygen', '-Q', '-l', '-f', list))).toContain(
        `\nid: host-${ID}\n`,
      )
      const known = `UserKnownHostsFile ${await client.write('krl-known', await shown())}`
      const lines = [known, `RevokedHostKeys ${list}`]
      expect(await client.connect('web1.example.com', [known])).toMatchObject(VERIFIED)
      for (const algorithm of ['ssh-ed25519', 'ecdsa-sha2-nistp256'])
        expect(
          await client.connect('web1.example.com', [
            ...lines,
            `HostKeyAlgorithms ${algorithm}-cert-v01@openssh.com`,
          ]),
        ).toMatchObject({ status: 255, stderr: expect.stringContaining(`revoked by file ${list}`) as string })
      expect(await client.connect('web2.example.com', lines)).toMatchObject(VERIFIED)
      // The trap that the message names.
      await rm(list)
      for (const name of ['web1.example.com', 'web2.example.com'])
        expect((await client.connect(name, lines)).status).toBe(255)
    })

    test('of hosts named by their ids, without a configuration', async () => {
      const other = '11111111-2222-3333-4444-5555555555AA'
      const none = join(folder, 'no-such.yaml')
      const list = await revocationList('two', '--host-id', ID, '--host-id', other, '--config', none)
      const ids = (await command(client.program('ssh-keygen', '-Q', '-l', '-f', list))).match(
        /(?<=^id: ).*/gm,
      )
      expect(ids?.toSorted()).toEqual([`host-${other.toLowerCase()}`, `host-${ID}`])
      expect(await hostcertd(['krl', list, '--config', none])).toMatchObject({
        status: 1,
        stderr: `not enrolled: ${none} does not exist; name the host: --host-id ID\n`,
      })
    })

    test('on standard output, byte for byte', async () => {
      const file = join(folder, 'client', 'of-stdout')
      const script = '"$1" "$2" krl - --host-id "$3" >"$4"'
      const program = join(import.meta.dirname, '../../dist/hostcertd.js')
      await command(['sh', '-c', script, 'sh', process.execPath, program, ID, file], { env: environment })
      expect(await command(client.program('ssh-keygen', '-Q', '-l', '-f', file))).toContain(
        `\nid: host-${ID}\n`,
      )
    })

    test('a folder that is not there; a program that is not there', async () => {
      const into = await hostcertd(['krl', join(folder, 'none', 'krl'), '--host-id', ID])
      expect(into).toMatchObject({ status: 1, stdout: '' })
      expect(into.stderr).toMatch(/^cannot write .*\/none\/krl: no such file or directory \(ENOENT\)\n$/)
      const without = await hostcertd(['krl', '-', '--host-id', ID], { environment: { PATH: '/nowhere' } })
      expect(without).toMatchObject({ status: 1, stdout: '' })
      expect(without.stderr).toMatch(/^cannot make the revocation list: cannot run ssh-keygen: .*ENOENT\)\n$/)
    })

    test('issuer.command: the key ids are not known', async () => {
      const commanded = await configure('commanded.yaml', {
        issuer: { command: ['/bin/true'] },
        auth: undefined,
        verify: { host_ca_file: join(folder, 'cas.pub') },
      })
      const result = await hostcertd(['krl', '-', '--config', commanded])
      expect(result).toMatchObject({ status: 1, stdout: '' })
      expect(result.stderr).toContain('have the key ids of that CA')
    })
  })
}

/** An sshd whose host keys have certificates of this CA; those of web1 have the key id that the issuer gives. */
async function startHost(folder: string, hostname: string, ca: string): Promise<PrivateSshd> {
  await mkdir(folder)
  const sshd = await startPrivateSshd({ folder, hostname, hostKeyTypes: ['ed25519', 'ecdsa'] })
  for (const type of ['ed25519', 'ecdsa'] as const) {
    const publicKey = `${sshd.hostKeyPath(type)}.pub`
    const keyId = hostname.startsWith('web1') ? `host-${ID}` : 'host-of-another-id'
    const wish = { ca, publicKey, keyId, principals: [hostname], validity: '-1h:+1h' }
    await writeFile(sshd.certificatePath(type), `${await signCertificate(wish)}\n`)
  }
  // From OpenSSH 9.8 on, it reads them at its start.
  await sshd.stop()
  await sshd.start()
  return sshd
}

interface Client {
  /** The words that run a program of the root file system, which sees the machine's /tmp. */
  program(...argv: readonly string[]): readonly string[]
  write(name: string, text: string): Promise<string>
  /** Log in with strict checking; `lines` of ssh_config are all that it trusts. */
  connect(name: string, lines: readonly string[]): Promise<Outcome>
  /** What `ssh -G` prints for a name. */
  settings(name: string, lines: readonly string[]): Promise<string>
}

async function makeClient(
  root: string,
  folder: string,
  sshds: ReadonlyMap<string, PrivateSshd>,
): Promise<Client> {
  await mkdir(folder)
  const write = async (name: string, text: string): Promise<string> => {
    const path = join(folder, name)
    await writeFile(path, text)
    return path
  }
  // ssh asks for a canonical name with a dot at its end.
  const names = [...sshds.keys()].flatMap((name) => [name, `${name}.`])
  const hosts = await write('hosts', `127.0.0.1 localhost ${names.join(' ')} other\n`)
  const script =
    'mount --rbind /tmp "$1/tmp" && mount --bind "$2" "$1/etc/hosts" && root=$1 && shift 2 && exec chroot "$root" env PATH=/usr/local/bin:/usr/bin:/bin "$@"'
  const program = (...argv: readonly string[]) =>
    ['unshare', '--mount', 'sh', '-c', script, 'sh', root, hosts, ...argv] as const
  const ssh = async (lines: readonly string[], args: readonly string[]): Promise<Outcome> => {
    const nothing = 'Host *\n    UserKnownHostsFile none\n    GlobalKnownHostsFile none'
    const file = await write('config', `${[...lines, nothing].join('\n')}\n`)
    const options = [
      'StrictHostKeyChecking=yes',
      'BatchMode=yes',
      'IdentitiesOnly=yes',
      'IdentityAgent=none',
      'UpdateHostKeys=no',
      ...(lines.some((line) => line.startsWith('LogLevel')) ? [] : ['LogLevel=ERROR']),
    ].flatMap((option) => ['-o', option])
    return tryCommand(program('ssh', '-F', file, ...options, ...args))
  }
  return {
    program,
    write,
    connect: async (name, lines) => {
      const sshd = [...sshds].find(([hostname]) => hostname.split('.')[0] === name.split('.')[0])?.[1]
      const target = sshd ?? sshds.get('web1.example.com')
      if (target === undefined) throw new Error(`there is no host ${name}`)
      const key = join(target.folder, 'client_key')
      return ssh(lines, ['-p', String(target.port), '-i', key, '-l', userInfo().username, name, 'true'])
    },
    settings: async (name, lines) => (await ssh(lines, ['-G', name])).stdout,
  }
}
