import { readFile } from 'node:fs/promises'
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

/** Everything that enroll may change: files below /etc with mode, owner and content, the service, the journal. */
export async function stateOfHost({ container }: Host): Promise<string> {
  return container.sh(
    `folders='/etc/ssh /etc/hostcertd /etc/default'
    find $folders -printf '%p %m %U:%G %y\\n' | sort
    find $folders -type f -exec sha256sum {} + | sort -k 2
    systemctl is-enabled hostcertd.service || true
    systemctl is-active hostcertd.service || true
    ls -A /var/lib/hostcertd-enroll 2>/dev/null | grep -v '^lock$' || true`,
  )
}

/** When to interrupt a command, and how. */
export interface Interruption {
  /** After so many lines of messages; 0: as soon as `since` is so. */
  readonly lines: number
  readonly signal: 'INT' | 'TERM' | 'HUP' | 'KILL'
}

/** Run a command in the host and send it a signal once it has said so many lines. */
export async function interrupt(
  { container }: Host,
  line: string,
  { lines, signal }: Interruption,
): Promise<Outcome> {
  const script = `
    : >/root/said
    ${line} 2>/root/said & pid=$!
    while [ "$(wc -l </root/said)" -lt ${lines} ] && kill -0 $pid 2>/dev/null; do sleep 0.02; done
    kill -${signal} $pid 2>/dev/null
    wait $pid; status=$?
    cat /root/said >&2
    exit $status`
  return container.try(['sh', '-c', script])
}
