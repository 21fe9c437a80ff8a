import { execFile } from 'node:child_process'
import {
  appendFile,
  copyFile,
  lstat,
  mkdir,
  readFile,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { needsRoot } from '../support/skip.ts'
import {
  answer,
  DROP_IN,
  dropInFor,
  inFrontOf,
  makeHelperHost,
  recordedSettings,
  sshdThatSays,
  type HelperHost,
} from './helper-host.ts'

const run = promisify(execFile)
const [ED25519, ECDSA] = ['ssh_host_ed25519_key', 'ssh_host_ecdsa_key']
const KEY = `/etc/ssh/${ED25519}`
const COPY = `/etc/ssh/hostcertd/${ED25519}-cert.pub`
const NO_PUBLIC_HALF = `cannot renew the certificate of ${KEY}: ${KEY}.pub is missing, or is no public key`
const REMEDY = `; to write it again: ssh-keygen -y -f '${KEY}' >'${KEY}.pub'`
const UNMATCHED = `kept, but it could not be matched to a host key: ${COPY}`
const AGENT = 'HostKeyAgent /run/agent.sock\n'

/** With both keys' certificates installed. */
async function hostWithBoth(): Promise<HelperHost> {
  const host = await makeHelperHost()
  await host.stage(ECDSA)
  await host.stage(ED25519)
  await host.ask('install\n')
  expect(Object.keys(await host.installed())).toHaveLength(3)
  return host
}

/** Nothing is lost, and the other key is renewed as ever. @returns the answer's notes */
async function notesAfterKeeping(host: HelperHost, before = ''): Promise<readonly string[]> {
  const good = await host.installed()
  const ecdsa = await host.stage(ECDSA, { serial: 2n })
  const { stdout } = await host.ask('install\n', { before })
  expect(stdout).toMatch(answer('ok', 'reload=no(?: : .*)?'))
  expect(await host.installed()).toEqual({ ...good, [`hostcertd/${ECDSA}-cert.pub`]: ecdsa })
  return notesIn(stdout)
}

/** Write nothing to a FIFO, again and again: sshd reads it too, and would wait. */
const feed = (path: string): string => `{ while :; do : >${path}; done; } &`

function notesIn(stdout: string): readonly string[] {
  const [, notes] = / : (.*)\n$/.exec(stdout) ?? []
  return notes?.split('\t') ?? []
}

describe('the root helper keeps a copy', needsRoot, () => {
  test.each<{ name: string; change: (pub: string) => Promise<unknown>; before?: string }>([
    { name: 'is missing', change: (pub) => rm(pub) },
    { name: 'is empty', change: (pub) => writeFile(pub, '') },
    { name: 'is half written', change: (pub) => writeFile(pub, 'half writ') },
    { name: 'is garbage', change: (pub) => writeFile(pub, Buffer.alloc(500, 0x9f)) },
    {
      name: 'begins with a byte order mark',
      change: async (pub) => await writeFile(pub, `\uFEFF${await readFile(pub, 'utf8')}`),
    },
    {
      name: 'is in the form of RFC 4716',
      change: async (pub) => await writeFile(pub, (await run('ssh-keygen', ['-e', '-f', pub])).stdout),
    },
    {
      name: 'is a FIFO',
      change: async (pub) => (await rm(pub), await run('mkfifo', [pub])),
      before: feed(`${KEY}.pub`),
    },
    { name: 'is a folder', change: async (pub) => (await rm(pub), await mkdir(pub)) },
    {
      name: 'is a symlink to nowhere',
      change: async (pub) => (await rm(pub), await symlink('/nowhere', pub)),
    },
  ])('whose public half $name', async ({ change, before }) => {
    await using host = await hostWithBoth()
    await change(join(host.ssh, `${ED25519}.pub`))
    expect(await notesAfterKeeping(host, before)).toEqual([NO_PUBLIC_HALF + REMEDY])
  })

  test('whose public half is a symlink to the real one: nothing is left out', async () => {
    await using host = await hostWithBoth()
    const pub = join(host.ssh, `${ED25519}.pub`)
    await rename(pub, join(host.ssh, 'real.pub'))
    await symlink('real.pub', pub)
    expect(await notesAfterKeeping(host)).toEqual([])
  })

  test('and renews it without a public half, as its private half says which key it is', async () => {
    await using host = await hostWithBoth()
    const renewed = await host.stage(ED25519, { serial: 2n })
    await rm(join(host.ssh, `${ED25519}.pub`))
    expect((await host.ask('install\n')).stdout).toMatch(answer('ok', 'reload=no : .*'))
    expect(await host.installed()).toMatchObject({ [`hostcertd/${ED25519}-cert.pub`]: renewed })
  })

  test('whose public half is that of an older key: sshd goes by the private half', async () => {
    await using host = await hostWithBoth()
    const pub = join(host.ssh, `${ED25519}.pub`)
    await host.addHostKey('older', 'ed25519')
    await copyFile(join(host.ssh, 'older.pub'), pub)
    await host.stage(ED25519)
    expect(await notesAfterKeeping(host)).toEqual([
      `${KEY}.pub is not the public half of ${KEY}${REMEDY}`,
      `not installed: /var/lib/hostcertd/certs/${ED25519}-cert.pub is for another key`,
    ])
  })

  describe.each<{ name: string; change: (key: string) => Promise<unknown>; before?: string }>([
    {
      name: 'has a passphrase',
      change: (key) => run('ssh-keygen', ['-q', '-p', '-P', '', '-N', 'secret', '-f', key]),
    },
    { name: 'is empty', change: (key) => writeFile(key, '') },
    {
      name: 'is a FIFO',
      change: async (key) => (await rm(key), await run('mkfifo', [key])),
      before: feed(KEY),
    },
    { name: 'is a folder', change: async (key) => (await rm(key), await mkdir(key)) },
    {
      name: 'is a symlink to nowhere',
      change: async (key) => (await rm(key), await symlink('/nowhere', key)),
    },
  ])('whose private half $name', ({ change, before }) => {
    test('with its public half beside it: nothing is left out', async () => {
      await using host = await hostWithBoth()
      await change(join(host.ssh, ED25519))
      expect(await notesAfterKeeping(host, before)).toEqual([])
    })

    test('with the public half of another key, or none: it may be for this one all the same', async () => {
      await using host = await hostWithBoth()
      await change(join(host.ssh, ED25519))
      await host.addHostKey('another', 'ed25519')
      await rm(join(host.staged, `${ED25519}-cert.pub`))
      await copyFile(join(host.ssh, 'another.pub'), join(host.ssh, `${ED25519}.pub`))
      expect(await notesAfterKeeping(host, before)).toEqual([UNMATCHED])
      await rm(join(host.ssh, `${ED25519}.pub`))
      expect(await notesAfterKeeping(host, before)).toEqual([NO_PUBLIC_HALF, UNMATCHED])
    })
  })

  test('whose key is in a folder that is away, for a file system that is not mounted, say', async () => {
    await using host = await makeHelperHost()
    await mkdir(join(host.ssh, 'persist'))
    await host.addHostKey('persist/key', 'ed25519')
    const lines = [ECDSA, 'persist/key'].map((name) => `HostKey /etc/ssh/${name}\n`)
    await appendFile(join(host.ssh, 'sshd_config'), lines.join(''))
    const certificate = await host.sign('persist/key')
    await writeFile(join(host.staged, 'key-cert.pub'), certificate)
    await host.stage(ECDSA)
    await host.ask('install\n')
    await rename(join(host.ssh, 'persist'), join(host.ssh, 'away'))
    await rm(join(host.staged, 'key-cert.pub'))
    expect(await notesAfterKeeping(host)).toHaveLength(2)
    expect(await host.installed()).toMatchObject({
      'hostcertd/key-cert.pub': certificate,
      [DROP_IN]: dropInFor('key', ECDSA),
    })
  })

  test('whose key is in a folder that the sandbox replaces', async () => {
    await using host = await makeHelperHost()
    const before = `mount -t tmpfs tmpfs /dev/shm; cp -p /etc/ssh/${ED25519}* /dev/shm`
    await appendFile(
      join(host.ssh, 'sshd_config'),
      `HostKey /etc/ssh/${ECDSA}\nHostKey /dev/shm/${ED25519}\n`,
    )
    const certificate = await host.stage(ED25519)
    await host.stage(ECDSA)
    expect((await host.ask('install\n', { before })).stdout).toMatch(answer('ok', 'reload=yes'))
    const notes = await notesAfterKeeping(host, 'mount -t tmpfs tmpfs /dev/shm')
    expect(notes).toContain(UNMATCHED)
    expect(await host.installed()).toMatchObject({ [`hostcertd/${ED25519}-cert.pub`]: certificate })
  })

  test.each([
    { name: 'in another form', does: 'exec "$program" -E md5 "$@"' },
    { name: 'nothing', does: 'exit 0' },
    { name: 'an error of its own', does: 'echo "cannot allocate memory" >&2; exit 255' },
  ])('when ssh-keygen says fingerprints $name', async ({ does }) => {
    await using host = await hostWithBoth()
    const good = await host.installed()
    const before = inFrontOf('/usr/bin/ssh-keygen', `case $1 in -l) ${does} ;; esac`)
    const { stdout } = await host.ask('install\n', { before })
    expect(stdout).toMatch(answer('ok', 'reload=no : .*'))
    expect(notesIn(stdout)).toContain(UNMATCHED)
    expect(await host.installed()).toEqual(good)
  })

  test('that cannot be read as a certificate, until there is one to put there', async () => {
    await using host = await hostWithBoth()
    const copy = join(host.ssh, 'hostcertd', `${ED25519}-cert.pub`)
    await rm(join(host.staged, `${ED25519}-cert.pub`))
    await writeFile(copy, 'a form of certificate that nobody knows yet\n')
    expect(await notesAfterKeeping(host)).toEqual([UNMATCHED])
    const certificate = await host.stage(ED25519)
    expect((await host.ask('install\n')).stdout).toMatch(answer('ok', 'reload=no'))
    expect(await readFile(copy, 'utf8')).toBe(certificate)
  })

  test('but no line for what is no file of its own, and says so', async () => {
    await using host = await hostWithBoth()
    const copy = join(host.ssh, 'hostcertd', `${ED25519}-cert.pub`)
    await copyFile(copy, join(host.ssh, 'spare-cert.pub'))
    await rm(join(host.staged, `${ED25519}-cert.pub`))
    for (const make of ['mkdir', 'ln -s ../spare-cert.pub']) {
      await rm(copy, { recursive: true })
      await run('sh', ['-c', `${make} "$1"`, 'sh', copy])
      const { stdout } = await host.ask('install\n')
      expect(notesIn(stdout)).toEqual([`left out: ${COPY} is not a regular file`])
      expect(await readFile(join(host.ssh, DROP_IN), 'utf8')).toBe(dropInFor(ECDSA))
    }
    // Nor is a symlink to what is staged as good as a copy of it.
    await rm(copy)
    await symlink(`/var/lib/hostcertd/certs/${ED25519}-cert.pub`, copy)
    const certificate = await host.stage(ED25519)
    expect((await host.ask('install\n')).stdout).toMatch(answer('ok', 'reload=yes'))
    expect(await host.installed()).toMatchObject({
      [`hostcertd/${ED25519}-cert.pub`]: certificate,
      [DROP_IN]: dropInFor(ECDSA, ED25519),
    })
    expect((await lstat(copy)).isFile()).toBe(true)
  })
})

describe('the root helper keeps a copy whose key may only be out of sight', needsRoot, () => {
  /** With its ed25519 key in a folder elsewhere, whose beginnings are shell. */
  async function hostWithKeyIn(keys: string, make: string) {
    const host = await makeHelperHost()
    for (const half of ['', '.pub'])
      await rename(join(host.ssh, ED25519 + half), join(host.ssh, '..', ED25519 + half))
    await appendFile(join(host.ssh, 'sshd_config'), `HostKey ${keys}/${ED25519}\nHostKey /etc/ssh/${ECDSA}\n`)
    await host.stage(ECDSA)
    const certificate = await host.sign(`../${ED25519}`)
    await writeFile(join(host.staged, `${ED25519}-cert.pub`), certificate)
    const before = `${make}; cp -p /run/test/${ED25519}* ${keys}/`
    expect((await host.ask('install\n', { before })).stdout).toMatch(answer('ok', 'reload=yes'))
    return host
  }

  test.each([
    {
      name: 'a file system that is not mounted',
      keys: '/run/keys',
      make: 'mkdir /run/keys',
      gone: 'mkdir /run/keys',
    },
    {
      name: 'a folder that the sandbox replaces',
      keys: '/run/keys',
      make: 'mkdir /run/tmp; mount --bind /run/tmp /var/tmp; ln -s /var/tmp /run/keys',
      gone: 'mkdir /run/tmp; mount --bind /run/tmp /var/tmp; ln -s /var/tmp /run/keys; touch /var/tmp/other',
    },
    {
      name: 'a folder that is not there',
      keys: '/run/a/keys',
      make: 'mkdir -p /run/a/keys',
      gone: 'mkdir /run/a',
    },
  ])('in $name', async ({ keys, make, gone }) => {
    await using host = await hostWithKeyIn(keys, make)
    expect(await notesAfterKeeping(host, gone)).toContain(UNMATCHED)
  })
})

describe('the root helper removes a copy and its line', needsRoot, () => {
  async function expectRemoved(host: HelperHost, before = ''): Promise<void> {
    const { [`hostcertd/${ECDSA}-cert.pub`]: ecdsa } = await host.installed()
    await rm(join(host.staged, `${ED25519}-cert.pub`))
    expect(notesIn((await host.ask('install\n', { before })).stdout)).toEqual([])
    expect(await host.installed()).toEqual({
      [`hostcertd/${ECDSA}-cert.pub`]: ecdsa,
      [DROP_IN]: dropInFor(ECDSA),
    })
  }

  test('whose key sshd_config no longer names', async () => {
    await using host = await hostWithBoth()
    await appendFile(join(host.ssh, 'sshd_config'), `HostKey /etc/ssh/${ECDSA}\n`)
    await expectRemoved(host)
  })

  test.each([
    { name: 'private half', gone: [''] },
    { name: 'two halves', gone: ['', '.pub'] },
  ])('whose $name are gone, and no agent has host keys', async ({ gone }) => {
    await using host = await hostWithBoth()
    for (const half of gone) await rm(join(host.ssh, `${ED25519}${half}`))
    await expectRemoved(host)
  })

  test('whose key was replaced by another', async () => {
    await using host = await hostWithBoth()
    await host.addHostKey(ED25519, 'ed25519')
    await expectRemoved(host)
  })

  test('whose private half is gone, but only when sshd -T says that there is no agent', async () => {
    await using host = await hostWithBoth()
    await rm(join(host.ssh, ED25519))
    await rm(join(host.ssh, `${ED25519}.pub`))
    const says = await recordedSettings('10.6p1')
    const silent = says.replace('HostKeyAgent none\n', '')
    expect(silent).not.toBe(says)
    expect(await notesAfterKeeping(host, await sshdThatSays(host, silent))).toContain(UNMATCHED)
    await expectRemoved(host, await sshdThatSays(host, says))
  })
})

describe('the root helper, with host keys in an agent', needsRoot, () => {
  /** An agent that holds the ed25519 key, at the socket that sshd_config names; the private half is gone. */
  const agent = `ssh-agent -a /run/agent.sock >/dev/null
    chmod 600 /run/test/agent_key; SSH_AUTH_SOCK=/run/agent.sock ssh-add -q /run/test/agent_key`

  async function hostWithAgent(hostKey: string): Promise<HelperHost> {
    const host = await makeHelperHost()
    await rename(join(host.ssh, ED25519), join(host.ssh, '..', 'agent_key'))
    await appendFile(
      join(host.ssh, 'sshd_config'),
      `${AGENT}HostKey /etc/ssh/${hostKey}\nHostKey /etc/ssh/${ECDSA}\n`,
    )
    return host
  }

  test.each([{ hostKey: ED25519 }, { hostKey: `${ED25519}.pub` }])(
    'HostKey $hostKey: installed, renewed, and kept whatever becomes of the public half',
    async ({ hostKey }) => {
      await using host = await hostWithAgent(hostKey)
      await host.stage(ED25519)
      await host.stage(ECDSA)
      expect((await host.ask('install\n', { before: agent })).stdout).toMatch(answer('ok', 'reload=yes'))
      const renewed = await host.stage(ED25519, { serial: 2n })
      expect((await host.ask('install\n', { before: agent })).stdout).toMatch(answer('ok', 'reload=no'))
      expect(await host.installed()).toMatchObject({
        [`hostcertd/${ED25519}-cert.pub`]: renewed,
        [DROP_IN]: dropInFor(ECDSA, ED25519),
      })
      await rm(join(host.staged, `${ED25519}-cert.pub`))
      await writeFile(join(host.ssh, `${ED25519}.pub`), '')
      const notes = [`cannot renew the certificate of /etc/ssh/${hostKey}: .*`, UNMATCHED]
      expect(await notesAfterKeeping(host, agent)).toEqual(notes.map((note) => expect.stringMatching(note)))
      await rm(join(host.ssh, `${ED25519}.pub`))
      expect(await notesAfterKeeping(host, agent)).toEqual(notes.map((note) => expect.stringMatching(note)))
    },
  )

  test('an agent that is dead: nothing is touched', async () => {
    await using host = await hostWithAgent(ED25519)
    await host.stage(ED25519)
    await host.ask('install\n', { before: agent })
    const good = await host.installed()
    expect(Object.keys(good)).toHaveLength(2)
    // With no other key than the agent's sshd has none at all.
    await rm(join(host.ssh, ECDSA))
    expect((await host.ask('install\n')).stdout).toMatch(/^error SSHD_CONFIG_INVALID listen= : /)
    expect(await host.installed()).toEqual(good)
  })
})

describe('the root helper, with host keys of unusual names', needsRoot, () => {
  test.each(['a@b+c', 'host key', 'ключ', "it's #1 = 50%"])('%s', async (name) => {
    await using host = await makeHelperHost()
    await host.addHostKey(name, 'ed25519')
    await appendFile(join(host.ssh, 'sshd_config'), `HostKey "/etc/ssh/${name}"\n`)
    const certificate = await host.stage(name)
    expect((await host.ask('install\n')).stdout).toMatch(answer('ok', 'reload=yes'))
    const copy = `hostcertd/${name}-cert.pub`
    expect(await host.installed()).toEqual({ [copy]: certificate, [DROP_IN]: dropInFor(name) })
    const before = `mkdir /run/sshd; sshd -T | sed -n 's/^hostcertificate //p' >&2`
    const { stdout, stderr } = await host.ask('install\n', { before })
    expect(stdout).toMatch(answer('ok', 'reload=no'))
    expect(stderr).toBe(`/etc/ssh/${copy}\n`)
  })

  test('a name that no line of sshd_config can hold is left out, and noted', async () => {
    await using host = await makeHelperHost()
    await host.addHostKey('a"b', 'ed25519')
    await appendFile(join(host.ssh, 'sshd_config'), `HostKey "/etc/ssh/a\\"b"\nHostKey /etc/ssh/${ECDSA}\n`)
    await host.stage('a"b')
    const ecdsa = await host.stage(ECDSA)
    const { stdout } = await host.ask('install\n')
    expect(notesIn(stdout)).toEqual(['left out because of its name: /etc/ssh/a"b'])
    expect(await host.installed()).toEqual({
      [`hostcertd/${ECDSA}-cert.pub`]: ecdsa,
      [DROP_IN]: dropInFor(ECDSA),
    })
  })
})
