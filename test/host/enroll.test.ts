import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { addHost } from '../enroll/ssh-host.ts'
import type { Permissions } from '../support/local-issuer/registry.ts'
import { generateKey, signCertificate } from '../support/ssh-keygen.ts'
import { bootHost, type Host } from './support/host.ts'
import { install } from './support/installed-host.ts'
import type { ProjectFacts } from './support/issuer-messages.ts'
import { HOSTNAME } from './support/network.ts'
import { describeOnEachRelease, ONE_BY_DEFAULT } from './support/releases.ts'
import { copiedCertificates, servedCertificates } from './support/served.ts'
import { unitProperty } from './support/status.ts'
import { atTerminal } from './support/terminal.ts'

const TLS_CA = '/etc/ssl/issuer-ca.pem'
const SECRET_FILE = '/root/secret'
const MAIN = '/etc/ssh/sshd_config'
const DAY_SECONDS = 86_400
const COLOUR = /\x1b\[\d+m/g
const USER_CA = '/etc/ssh/infisical_user_ca.pub'

interface Identity {
  readonly clientId: string
  readonly clientSecret: string
}

interface Enrolled {
  readonly changed: boolean
  readonly host_id: string
  readonly hostname: string
  readonly steps: readonly { readonly step: string; readonly detail: string }[]
  readonly known_hosts: string
}

describeOnEachRelease(
  'enroll',
  (release) => {
    let host: Host
    /** With the package alone. */
    let bare: string
    let hostIds: string[] = []
    /** Process id of sshd; null when a test changes it itself. */
    let sshd: string | null

    beforeAll(async () => {
      host = await bootHost(release)
      await install(host, 'deb')
      await host.container.write(TLS_CA, await readFile(host.issuer.facts.tlsCaFile, 'utf8'))
      await host.container.sh('cp -a /etc/ssh /etc/default /root/')
      bare = await stateOfEtc()
    })
    afterAll(async () => {
      await host[Symbol.asyncDispose]()
    })
    beforeEach(async () => {
      hostIds = []
      sshd = await unitProperty(host.container, 'ssh.service', 'MainPID')
    })
    afterEach(async () => {
      await host.container.try(['hostcertd', 'unenroll', '--yes'])
      const after = await unitProperty(host.container, 'ssh.service', 'MainPID')
      // First of all, for an sshd that was told to reload a moment ago reads its files at some time now.
      await host.container.sh(`
      systemctl is-active --quiet ssh.socket || systemctl stop ssh.service
      rm -rf /etc/ssh /etc/default /etc/hostcertd/host-ca.pub /var/lib/hostcertd/certs/*
      cp -a /root/ssh /root/default /etc/
      systemctl is-active --quiet ssh.socket || systemctl start ssh.service`)
      for (const hostId of hostIds) await host.issuer.ask({ do: 'remove-host', hostId })
      // A reload keeps it: whoever is logged in, or connects meanwhile, notices nothing.
      if (sshd !== null && after !== sshd)
        throw new Error(`sshd was restarted: it was ${sshd}, and is ${after}`)
    })

    test('one line makes the host a member, the same line changes nothing, unenroll takes all back', async () => {
      const { container, client } = host
      const line = await lineByIds()

      const shown = await container.try(['sh', '-c', `${line} --dry-run`])
      expect(shown).toMatchObject({ status: 0, stdout: '' })
      expect(shown.stderr).toContain('+++ /etc/hostcertd/hostcertd.yaml\n')
      expect(await container.try(['sh', '-c', `${line} --check`])).toMatchObject({ status: 2 })
      expect(await stateOfEtc()).toBe(bare)

      const first = await enroll(`umask 077; ${line}`)
      expect(first).toMatchObject({ changed: true, hostname: HOSTNAME })
      await client.trust(first.known_hosts)
      expect(await client.verifyAll()).toEqual([])
      expect(await servedCertificates(host)).toHaveLength(3)
      expect(await modes('/etc/hostcertd/*', '/etc/hostcertd/credentials/*')).toEqual([
        '/etc/hostcertd/credentials 700 0:0',
        '/etc/hostcertd/credentials/client-secret 600 0:0',
        '/etc/hostcertd/host-ca.pub 644 0:0',
        '/etc/hostcertd/hostcertd.yaml 644 0:0',
      ])
      expect(await modes('/var/lib/hostcertd-enroll', '/var/lib/hostcertd-enroll/enrollment.json')).toEqual([
        '/var/lib/hostcertd-enroll 755 0:0',
        '/var/lib/hostcertd-enroll/enrollment.json 644 0:0',
      ])

      expect(await container.try(['sh', '-c', `${line} --check`])).toMatchObject({ status: 0 })
      expect(await enroll(line)).toMatchObject({ changed: false, steps: [], host_id: first.host_id })

      expect(await container.try(['hostcertd', 'unenroll', '--check'])).toMatchObject({ status: 2 })
      await container.run(['hostcertd', 'unenroll', '--yes'])
      expect(await stateOfEtc()).toBe(bare)
      expect(await client.logIn(null)).toMatchObject({ stdout: 'hello\n' })
      expect(await servedCertificates(host)).toEqual([])
      expect(await container.try(['hostcertd', 'unenroll', '--check'])).toMatchObject({ status: 0 })
    })

    test('comments in files that were there stay, owner and mode are corrected and given back; systemd reads the proxy as it was given', async () => {
      const { container, issuer } = host
      const pinned = `# pinned by hand\n${issuer.facts.caPublicKey} of the fleet\n`
      await container.write('/etc/hostcertd/host-ca.pub', pinned)
      await container.write('/etc/default/hostcertd', '# ours\nhttps_proxy=old\nOTHER="a \\\nb"\n')
      await container.sh('chown games:games /etc/default/hostcertd; chmod 0640 /etc/hostcertd/host-ca.pub')
      const before = await stateOfEtc()
      const proxy = String.raw`http://user:p"a$s\w'o%rd${'`'}@proxy.example.com:3128`
      const given = `HTTPS_PROXY='${proxy.replaceAll("'", String.raw`'\''`)}' NO_PROXY=${host.network.outsideAddress}`
      const line = `${given} ${await lineByIds()}`

      const { stderr } = await container.try(['sh', '-c', `${line} --dry-run`])
      expect(stderr).toContain('/etc/default/hostcertd (not shown)')
      expect(stderr).not.toContain('@proxy')
      await enroll(line)
      expect(await readInside('/etc/hostcertd/host-ca.pub')).toBe(pinned)
      expect(await modes('/etc/hostcertd/host-ca.pub', '/etc/default/hostcertd')).toEqual([
        '/etc/default/hostcertd 600 0:0',
        '/etc/hostcertd/host-ca.pub 644 0:0',
      ])
      const defaults = await readInside('/etc/default/hostcertd')
      expect(defaults).toMatch(/^# ours\nHTTPS_PROXY="http.*\nOTHER="a \\\nb"\nNO_PROXY=[\d.]+\n$/)
      const environment = await container.sh(
        'systemd-run --quiet --pipe --wait --collect --property=EnvironmentFile=/etc/default/hostcertd env',
      )
      expect(environment.split('\n')).toEqual(expect.arrayContaining([`HTTPS_PROXY=${proxy}`, 'OTHER=a b']))
      expect(await enroll(line)).toMatchObject({ changed: false })

      await container.run(['hostcertd', 'unenroll', '--yes'])
      expect(await stateOfEtc()).toBe(before)
    })

    test('what `infisical ssh add-host` left is taken over by one line', async () => {
      const { container, issuer, client } = host
      const hostId = await register(HOSTNAME)
      const identity = await addIdentity()
      const debians = await readInside(MAIN)
      const publicKey = join(container.root, 'etc/ssh/ssh_host_ed25519_key.pub')
      const keyId = `host-${hostId}`
      const wish = { publicKey, ca: issuer.facts.caKeyPath, keyId, principals: [HOSTNAME], validity: '+1h' }
      await container.write('/etc/ssh/ssh_host_ed25519_key-cert.pub', `${await signCertificate(wish)}\n`)
      await container.write(USER_CA, await generateKey(join(container.root, 'root/user-ca'), 'ed25519', ''))
      await container.write(MAIN, addHost(debians, 'ed25519'))
      await container.sh('systemctl reload ssh.service')
      const before = await stateOfEtc()
      expect(await servedCertificates(host)).toHaveLength(1)

      const line = `${loginWords(identity)} --from-certificate`
      const { status, stderr } = await container.try(['sh', '-c', `${line} --yes`])
      expect({ status, stderr }).toMatchObject({ status: 0 })
      expect(stderr).toMatch(
        /note: .*sshd_config:\d+: TrustedUserCAKeys .*infisical_user_ca\.pub .*: stays\n/,
      )
      expect(await client.verifyAll()).toEqual([])
      expect(await servedCertificates(host)).toHaveLength(3)
      expect(await readInside(MAIN)).toBe(`${debians}\nTrustedUserCAKeys ${USER_CA}\n`)
      expect(await enroll(line)).toMatchObject({ changed: false, host_id: hostId })

      await container.run(['hostcertd', 'unenroll', '--yes'])
      expect(await stateOfEtc()).toBe(before)
      expect(await servedCertificates(host)).toHaveLength(1)
    })

    test('without the Include and one public half, beside drop-ins of others', async () => {
      const { container, issuer, client } = host
      const debians = await readInside(MAIN)
      const publicKey = join(container.root, 'etc/ssh/ssh_host_ed25519_key.pub')
      const keyLine = await readFile(publicKey, 'utf8')
      const [asleep, rival] = ['/etc/ssh/sshd_config.d/10-asleep.conf', '/etc/ssh/99-rival.conf']
      const certificate = await signCertificate({ publicKey, ca: issuer.facts.caKeyPath, validity: '+1h' })
      await container.write('/etc/ssh/rival-cert.pub', `${certificate}\n`)
      await container.write(asleep, 'PermitRootLogin no\n')
      const agents = 'AuthorizedKeysCommand /usr/bin/google_authorized_keys\nAuthorizedKeysCommandUser root\n'
      await container.write(rival, `${agents}# mine\nHostCertificate /etc/ssh/rival-cert.pub\n`)
      await container.write(MAIN, debians.replace(/^Include .*$/m, `Include ${rival}`))
      await container.sh('rm /etc/ssh/ssh_host_ed25519_key.pub; systemctl reload ssh.service')
      const before = await stateOfEtc()
      const line = await lineByIds()

      const refused = await container.try(['sh', '-c', `${line} --yes`])
      expect(refused).toMatchObject({ status: 1, stdout: '' })
      expect(refused.stderr).toMatch(
        /SSHD_CONFIG_INVALID: \/etc\/ssh\/99-rival\.conf:4: HostCertificate \/etc\/ssh\/rival-cert\.pub .* or add --take-over/,
      )
      expect(await stateOfEtc()).toBe(before)

      const taken = await container.try(['sh', '-c', `${line} --yes --take-over`])
      expect(taken).toMatchObject({ status: 0 })
      expect(taken.stderr).toMatch(/note: .*99-rival\.conf:1: AuthorizedKeysCommand .*OS Login\)\): stays\n/)
      expect(taken.stderr).toContain(`note: ${asleep}: sshd does not read it, and this stays so`)
      expect(await client.verifyAll()).toEqual([])
      expect(await readInside(rival)).toBe(`${agents}# mine\n`)
      expect(await readInside('/etc/ssh/ssh_host_ed25519_key.pub')).toBe(
        `${keyLine.split(' ').slice(0, 2).join(' ')}\n`,
      )

      await container.run(['hostcertd', 'unenroll', '--yes'])
      expect(await stateOfEtc()).toBe(before)
    })

    test('registered in a project, with the token of an administrator on standard input', async () => {
      const { container, issuer } = host
      const { slug } = (await issuer.ask({ do: 'project' })) as ProjectFacts
      const permissions = { mayCreate: [HOSTNAME], mayRead: 'all', mayIssueFor: [] } as const
      const token = String(await issuer.ask({ do: 'add-token', permissions }))
      const identity = await addIdentity()
      const line = `${loginWords(identity)} --project ${slug} --hostname ${HOSTNAME} --register`
      const first = await enroll(`${line} --ttl 7d --admin-token-file -`, token)
      hostIds.push(first.host_id)
      expect(first.changed).toBe(true)
      await host.client.trust(first.known_hosts)
      expect(await host.client.verifyAll()).toEqual([])
      expect(await enroll(line)).toMatchObject({ changed: false, host_id: first.host_id })
      expect(await everythingBut(token)).toBe('')

      await container.run(['hostcertd', 'unenroll', '--yes'])
      // What was registered is this host's own still; the secret comes by standard input.
      const read = await addIdentity({ mayRead: 'all', mayCreate: true })
      const byInput = `${loginWords(read, '-')} --project ${slug} --hostname ${HOSTNAME} --register`
      expect(await enroll(byInput, `${read.clientSecret}\n`)).toMatchObject({ host_id: first.host_id })
      await container.run(['hostcertd', 'unenroll', '--yes'])

      const taken = await register('web2.example.com')
      const other = byInput.replace(HOSTNAME, 'web2.example.com')
      const input = read.clientSecret
      const refused = await container.try(['sh', '-c', `${other} --yes`], { input })
      expect(refused).toMatchObject({ status: 1, stdout: '' })
      expect(refused.stderr).toMatch(
        new RegExp(`web2\\.example\\.com is registered already, as ${taken}.* --take-over`),
      )
      expect(await stateOfEtc()).toBe(bare)
      expect(await enroll(`${other} --take-over`, input)).toMatchObject({ host_id: taken })
    })

    test('a host that was deleted at the issuer is registered again, and sshd gets certificates of the new one', async () => {
      const { container, issuer, client } = host
      const { slug } = (await issuer.ask({ do: 'project' })) as ProjectFacts
      const identity = await addIdentity({ mayRead: 'all', mayCreate: true })
      const line = `${loginWords(identity)} --project ${slug} --hostname ${HOSTNAME} --register`
      const first = await enroll(line)
      await client.trust(first.known_hosts)
      await issuer.ask({ do: 'remove-host', hostId: first.host_id })
      const second = await enroll(line)
      hostIds.push(second.host_id)
      expect(second.host_id).not.toBe(first.host_id)
      expect(await client.verifyAll()).toEqual([])
      const list = 'for file in /etc/ssh/hostcertd/*-cert.pub; do ssh-keygen -L -f "$file"; done'
      const keyIds = [...(await container.sh(list)).matchAll(/Key ID: "(.*)"/g)].map(([, keyId]) => keyId)
      expect(keyIds).toEqual(Array<string>(3).fill(`host-${second.host_id}`))
      expect(await servedCertificates(host)).toEqual(await copiedCertificates(host))
      expect(await enroll(line)).toMatchObject({ changed: false, host_id: second.host_id })
      await container.run(['hostcertd', 'unenroll', '--yes'])
      expect(await stateOfEtc()).toBe(bare)
    })

    test('what is in the way on the host, or cannot be read, is found before the issuer is asked', async () => {
      const { container, issuer } = host
      const { slug } = (await issuer.ask({ do: 'project' })) as ProjectFacts
      const identity = await addIdentity({ mayRead: 'all', mayCreate: true })
      const line = `${loginWords(identity)} --project ${slug} --hostname ${HOSTNAME} --register --yes`
      const [pins, record] = ['/etc/hostcertd/host-ca.pub', '/var/lib/hostcertd-enroll/enrollment.json']
      for (const [before, says, after] of [
        [`echo NoSuchKeyword yes >>${MAIN}`, /SSHD_CONFIG_INVALID: .*NoSuchKeyword/, `cp -a /root/ssh /etc/`],
        [
          `mkdir ${pins}`,
          /CONFIG_INVALID: cannot read .*host-ca\.pub: it is not a regular file/,
          `rmdir ${pins}`,
        ],
        [`mkfifo ${pins}`, /CONFIG_INVALID: cannot read .*host-ca\.pub: it is not a regular/, `rm ${pins}`],
        [`ln -s /nowhere ${pins}`, /CONFIG_INVALID: cannot read .*host-ca\.pub: /, `rm ${pins}`],
        [
          `head -c 70000 /dev/zero >${pins}`,
          /CONFIG_INVALID: cannot read .*host-ca\.pub: it is larger/,
          `rm ${pins}`,
        ],
        [`printf '# \\377\\n' >${pins}`, /CONFIG_INVALID: cannot read .*host-ca\.pub: .*UTF-8/, `rm ${pins}`],
        [`echo nonsense >${pins}`, /CONFIG_INVALID: \S*host-ca\.pub: /, `rm ${pins}`],
        [
          `mkdir -p ${record}`,
          /STORE_FAILED: cannot read .*enrollment\.json: .*; restore/,
          `rmdir ${record}`,
        ],
      ] as const) {
        await container.sh(before)
        const refused = await container.try(['sh', '-c', line])
        expect({ before, ...refused }).toMatchObject({ status: 1, stderr: expect.stringMatching(says) })
        expect(refused.stderr).not.toContain('registered')
        await container.sh(after)
      }
      expect(await stateOfEtc()).toBe(bare)
      // It was not registered: the name is free.
      hostIds.push((await enroll(line.replace('--yes', ''))).host_id)
    })

    test('a person at a terminal types the secret, sees the changes and is asked once', async () => {
      const hostId = await register(HOSTNAME)
      const { clientId, clientSecret } = await addIdentity()
      const { url } = host.issuer.facts
      const line = `hostcertd enroll --url ${url} --ca-file ${TLS_CA} --host-id ${hostId} --hostname ${HOSTNAME} --auth universal-auth --client-id ${clientId}`
      const typed = (answer: string) =>
        [
          ['client secret: ', clientSecret],
          ['Make these changes? [y/N] ', answer],
        ] as const

      for (const answer of ['n', '', '\x03', '\x04']) {
        const no = await atTerminal(host.container, line, typed(answer))
        const wanted = { status: 1, stdout: expect.stringMatching(/nothing on this machine was changed\n$/) }
        expect({ answer, ...no }).toMatchObject(wanted)
        expect(no.stdout).not.toContain(clientSecret)
      }
      expect(await stateOfEtc()).toBe(bare)

      const yes = await atTerminal(host.container, line, typed('y'))
      expect(yes).toMatchObject({ status: 0 })
      expect(yes.stdout).toMatch(COLOUR)
      expect(yes.stdout).not.toContain(clientSecret)
      const words = yes.stdout.replace(COLOUR, '')
      expect(words).toMatch(
        /^client secret: \nthis host's certificates are signed by the CA SHA256:\S+ \(ssh-ed25519\)\ncompare it .*clients trust\n# store/,
      )
      expect(words).toMatch(
        /\[y\/N\] .*y\n(?:[\w -]+\n){7}waiting until sshd presents the certificates\nweb1\.example\.com is enrolled: .*\nClients with this line in .*:\n@cert-authority \*\.example\.com ssh-ed25519 \S+\n$/,
      )

      const again = await atTerminal(host.container, line, [])
      expect(again.stdout).toMatch(
        /^web1\.example\.com is enrolled already: nothing changed\nClients with this line/,
      )
      const back = await atTerminal(host.container, 'NO_COLOR=1 hostcertd unenroll', [['[y/N] ', 'y']])
      expect(back).toMatchObject({ status: 0 })
      expect(back.stdout).not.toMatch(COLOUR)
      expect(await stateOfEtc()).toBe(bare)
    })

    // The last, for Debian's own way back fails: a running sshd outlives its socket, and the next one finds the port taken.
    test('ssh.socket instead of ssh.service', async () => {
      const { container, client } = host
      sshd = null
      await container.sh('systemctl disable --now ssh.service; systemctl enable --now ssh.socket')
      const first = await enroll(await lineByIds())
      await client.trust(first.known_hosts)
      expect(await client.verifyAll()).toEqual([])
      await container.run(['hostcertd', 'unenroll', '--yes'])
      expect(await servedCertificates(host)).toEqual([])
      expect(await client.logIn(null)).toMatchObject({ stdout: 'hello\n' })
      expect(await container.run(['systemctl', 'is-active', 'ssh.socket'])).toBe('active\n')
    })

    async function register(hostname: string): Promise<string> {
      const hostId = String(await host.issuer.ask({ do: 'add-host', hostname, ttlSeconds: DAY_SECONDS }))
      hostIds.push(hostId)
      return hostId
    }

    /** Its secret is in {@link SECRET_FILE}. */
    async function addIdentity(permissions: Permissions = {}): Promise<Identity> {
      const identity = (await host.issuer.ask({ do: 'add-identity', permissions })) as Identity
      await host.container.write(SECRET_FILE, identity.clientSecret, 0o600)
      return identity
    }

    function loginWords({ clientId }: Identity, file = SECRET_FILE): string {
      return `hostcertd enroll --url ${host.issuer.facts.url} --ca-file ${TLS_CA} --auth universal-auth --client-id ${clientId} --client-secret-file ${file}`
    }

    /** For a host that is registered already, with the secret in a file. */
    async function lineByIds(): Promise<string> {
      const hostId = await register(HOSTNAME)
      const identity = await addIdentity()
      return `${loginWords(identity)} --host-id ${hostId} --hostname ${HOSTNAME}`
    }

    async function enroll(line: string, input = ''): Promise<Enrolled> {
      return JSON.parse(await host.container.sh(`${line} --yes --json --wait 1m`, { input })) as Enrolled
    }

    async function readInside(path: string): Promise<string> {
      return await host.container.run(['cat', path])
    }

    /** `PATH MODE UID:GID` of each. */
    async function modes(...patterns: readonly string[]): Promise<readonly string[]> {
      const lines = await host.container.sh(`stat -c '%n %a %u:%g' ${patterns.join(' ')}`)
      return lines.trimEnd().split('\n').toSorted()
    }

    /** Files that hold a text which is to be nowhere. */
    async function everythingBut(text: string): Promise<string> {
      const { stdout } = await host.container.try([
        'grep',
        '-rlF',
        '-e',
        text,
        '/etc',
        '/var',
        '/run',
        '/tmp',
      ])
      return stdout
    }

    /** Every file below /etc/ssh, /etc/hostcertd and /etc/default: its path, mode, owner and content. */
    async function stateOfEtc(): Promise<string> {
      return host.container.sh(
        `find /etc/ssh /etc/hostcertd /etc/default -printf '%p %m %U:%G %y\\n' | sort
      find /etc/ssh /etc/hostcertd /etc/default -type f -exec sha256sum {} + | sort -k 2`,
      )
    }
  },
  ONE_BY_DEFAULT,
)
