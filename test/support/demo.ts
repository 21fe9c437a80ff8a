/** `npm run demo`: the main job on an empty machine, told in plain lines. `--keep` leaves it running. */
import { once } from 'node:events'
import { execPath } from 'node:process'
import { parseCertificate } from '../../agent/cert/host-certificate.ts'
import { formatDuration } from '../../agent/cert/time.ts'
import type { HostKeyType } from './private-sshd.ts'
import { HOSTNAME, makeWorld, type World } from './world.ts'

const TYPES: readonly HostKeyType[] = ['ed25519', 'ecdsa', 'rsa']
const SHORT_SECONDS = 14
const LONG_SECONDS = 3600
const startedAt = performance.now()

function title(text: string): void {
  console.log(`\n${text}`)
}

function say(text: string): void {
  console.log(`  ${text}`)
}

function seconds(since: number): string {
  return `${((performance.now() - since) / 1000).toFixed(1)} s`
}

async function served(world: World, type: HostKeyType): Promise<{ serial: string; left: string } | null> {
  const line = await world.sshd.scan(type)
  if (line === null) return null
  const certificate = parseCertificate(line)
  const left = formatDuration(Number(certificate.validBefore) - Date.now() / 1000)
  return { serial: String(certificate.serial), left }
}

async function connect(world: World, expected: 'verified' | 'refused'): Promise<void> {
  const { status, stderr } = await world.sshd.connect({ knownHosts: world.knownHosts(), hostname: HOSTNAME })
  const got = status === 0 ? 'verified' : 'refused'
  const words =
    stderr
      .trim()
      .split('\n')
      .findLast((line) => line.trim() !== '')
      ?.trim() ?? ''
  say(
    `ssh -o StrictHostKeyChecking=yes ${HOSTNAME} → ${got}${got === 'refused' ? `: ${words}` : ', no prompt'}`,
  )
  if (got !== expected) throw new Error(`the client should have ${expected} the host: ${stderr}`)
}

async function allServed({ agent }: World): Promise<boolean> {
  return (await agent.health('/readyz')).status === 200
}

async function withoutCertificates(world: World): Promise<void> {
  title('1. A host without certificates')
  say(`an sshd with three fresh host keys (${TYPES.join(', ')}) listens on 127.0.0.1:${world.sshd.port}`)
  say('a client that trusts only the CA, through one line in known_hosts:')
  say(`  ${world.knownHosts().slice(0, 68)}…`)
  await connect(world, 'refused')
}

async function firstIssue(world: World): Promise<void> {
  const { agent, issuer } = world
  title('2. hostcertd starts')
  say(
    `a local issuer that imitates Infisical listens at ${issuer.url}; its certificates are valid for ${SHORT_SECONDS} s`,
  )
  const since = performance.now()
  await agent.start()
  await agent.waitFor('all certificates are served', async () => allServed(world))
  say(
    `after ${seconds(since)} each host key has a certificate, issued, verified, swapped in, and served by sshd:`,
  )
  for (const type of TYPES) say(`  ${type.padEnd(8)} serial ${(await served(world, type))?.serial}`)
  await connect(world, 'verified')
}

async function renewal(world: World): Promise<void> {
  title('3. Renewal before expiry')
  const before = await served(world, 'ed25519')
  say(`ed25519: sshd serves serial ${before?.serial}, ${before?.left} left`)
  await world.agent.waitFor('a renewed certificate is served', async () => {
    const now = await served(world, 'ed25519')
    return now !== null && now.serial !== before?.serial
  })
  const after = await served(world, 'ed25519')
  say(`ed25519: sshd serves serial ${after?.serial}, ${after?.left} left; renewed automatically`)
  await connect(world, 'verified')
}

async function issuerDown(world: World): Promise<void> {
  const { agent, issuer } = world
  title('4. The issuer goes down, and comes back')
  await issuer.stop()
  const from = agent.log.length
  const failure = await agent.waitForLog(/cannot reach/, 30, from)
  say(
    `renewal fell due and failed: ${String(failure['code'])}, next attempt in ${String(failure['retry_in_seconds'])} s`,
  )
  const { left } = (await served(world, 'ed25519')) ?? { left: 'nothing' }
  say(`the certificate in place is untouched and served, ${left} left`)
  await connect(world, 'verified')
  issuer.setTtl(world.hostId, LONG_SECONDS)
  const since = performance.now()
  await issuer.start()
  await agent.waitFor(
    'it recovered',
    async () => {
      const now = await served(world, 'ed25519')
      return now?.left.endsWith('m') === true || now?.left.includes('m ') === true
    },
    40,
  )
  say(
    `the issuer is back; ${seconds(since)} later sshd serves new certificates (valid for an hour from now on)`,
  )
}

async function rotation(world: World): Promise<void> {
  const { agent, sshd } = world
  title('5. A host key is replaced')
  await agent.waitFor('all is quiet', async () => allServed(world))
  const before = await served(world, 'ed25519')
  const since = performance.now()
  await sshd.rotateKey('ed25519', 'rename')
  say('ssh-keygen made a new ed25519 host key; its old certificate no longer matches')
  await agent.waitFor('the new key is signed and served', async () => {
    const now = await served(world, 'ed25519')
    return now !== null && now.serial !== before?.serial
  })
  say(
    `${seconds(since)} later the new key is signed, and served with serial ${(await served(world, 'ed25519'))?.serial}`,
  )
  await connect(world, 'verified')
}

async function look(world: World): Promise<void> {
  title('6. hostcertd status')
  const { stdout } = await world.agent.verb('status')
  for (const line of stdout.trimEnd().split('\n')) say(line)
}

async function keep(world: World): Promise<void> {
  const { agent, sshd, issuer } = world
  const hostcertd = `${execPath} dist/hostcertd.js`
  title('It goes on running. Have a look around (Ctrl-C ends it and removes everything):')
  say(`curl -s http://127.0.0.1:${agent.healthPort}/readyz`)
  say(`curl -s http://127.0.0.1:${agent.healthPort}/metrics`)
  say(`${hostcertd} status --config ${agent.configPath}`)
  say(`${hostcertd} renew --force --config ${agent.configPath}`)
  say(`${hostcertd} inspect ${sshd.certificatePath('ed25519')}`)
  say(`ssh-keyscan -c -p ${sshd.port} 127.0.0.1`)
  say(`rm ${sshd.certificatePath('rsa')}   # it comes back`)
  say(`the issuer: ${issuer.url}`)
  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
}

async function main(): Promise<void> {
  await using world = await makeWorld({ ttlSeconds: SHORT_SECONDS })
  const interrupted = (): void => {
    process.exitCode = 130
    void world[Symbol.asyncDispose]()
  }
  process.once('SIGINT', interrupted)
  console.log(
    'hostcertd keeps the certificates of a host fresh. Everything here is real except the issuer, which runs locally.',
  )
  await withoutCertificates(world)
  await firstIssue(world)
  await renewal(world)
  await issuerDown(world)
  await rotation(world)
  await look(world)
  process.removeListener('SIGINT', interrupted)
  if (process.argv.includes('--keep')) await keep(world)
  else console.log(`\nDone in ${seconds(startedAt)}; everything was removed.`)
}

try {
  await main()
} catch (error) {
  if (process.exitCode !== 130) {
    console.error(`\nthe demo failed: ${error instanceof Error ? error.message : String(error)}`)
    process.exitCode = 1
  }
}
