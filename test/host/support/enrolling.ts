import { writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Outcome } from './commands.ts'
import type { Host } from './host.ts'
import { HOSTNAME } from './network.ts'

const TLS_CA = '/etc/ssl/issuer-ca.pem'

/** The command for a host that is registered already, with its secret in a file. */
export async function enrollCommand({ container, issuer }: Host): Promise<string> {
  const hostId = String(await issuer.ask({ do: 'add-host', hostname: HOSTNAME, ttlSeconds: 86_400 }))
  const identity = (await issuer.ask({ do: 'add-identity' })) as { clientId: string; clientSecret: string }
  await container.write(TLS_CA, await readFile(issuer.facts.tlsCaFile, 'utf8'))
  await container.write('/root/secret', identity.clientSecret, 0o600)
  return [
    `hostcertd enroll --url ${issuer.facts.url} --ca-file ${TLS_CA} --host-id ${hostId} --hostname ${HOSTNAME}`,
    `--auth universal-auth --client-id ${identity.clientId} --client-secret-file /root/secret`,
  ].join(' ')
}

/** Everything that enroll may change: files below /etc with mode, owner and content, the service, what it keeps, the journal. */
export async function stateOfHost({ container }: Host): Promise<string> {
  return container.sh(
    `folders='/etc/ssh /etc/hostcertd /etc/default'
    find $folders -printf '%p %m %U:%G %y\\n' | sort
    find $folders -type f -exec sha256sum {} + | sort -k 2
    systemctl is-enabled hostcertd.service || true
    systemctl is-active hostcertd.service || true
    find /var/lib/hostcertd/certs | sort
    ls -A /var/lib/hostcertd-enroll 2>/dev/null | grep -v '^lock$' || true`,
  )
}

const SAID = '/root/said'

/** What a command that {@link runSaying} started has said so far. */
async function saidSoFar({ container }: Host): Promise<string> {
  return readFile(join(container.root, SAID), 'utf8')
}

/** Run a command whose messages can be read while it runs; they are its stderr too. */
export async function runSaying(host: Host, line: string): Promise<Outcome> {
  const { container } = host
  // At once: who waits for messages must not see those of the last command.
  writeFileSync(join(container.root, SAID), '')
  const script = `echo $$ >/root/pid; exec ${line} 2>${SAID}`
  const outcome = await container.try(['sh', '-c', script])
  return { ...outcome, stderr: await saidSoFar(host) }
}

/** Send a command a signal as soon as something is so; it may have ended before. */
export async function interrupt(
  host: Host,
  line: string,
  signal: 'INT' | 'TERM' | 'HUP' | 'KILL',
  when: () => Promise<boolean>,
): Promise<Outcome> {
  const state = { isOver: false }
  const running = runSaying(host, line).finally(() => (state.isOver = true))
  while (!state.isOver && !(await when().catch(() => false))) await sleep(20)
  if (!state.isOver) await host.container.try(['sh', '-c', `kill -${signal} $(cat /root/pid)`])
  return running
}

/** Whether a command has said so many lines. */
export function linesSaid(host: Host, lines: number): () => Promise<boolean> {
  return async () => (await saidSoFar(host)).split('\n').length > lines
}
