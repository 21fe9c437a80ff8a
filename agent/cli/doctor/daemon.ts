import type { StatusDocument } from '../../core/status-document.ts'
import { askDaemon } from '../status.ts'
import { ok, skipped, warning, type Finding } from './finding.ts'
import type { Patient } from './patient.ts'

/** Whether the daemon runs, by its health port, and with this configuration. */
export async function examineDaemon({ config, signal }: Patient): Promise<Finding> {
  const { listen } = config.health
  if (listen.kind === 'none') return skipped('daemon', 'it cannot be asked: health.listen is none')
  const where = listen.kind === 'unix' ? listen.path : `${listen.host}:${listen.port}`
  const status = await askDaemon(listen, signal)
  if (status === null) {
    const remedy = '`systemctl enable --now hostcertd`; `journalctl -u hostcertd` tells why it ended'
    return warning(
      'daemon',
      `no hostcertd answers at ${where}: nothing is renewed while it does not run`,
      remedy,
    )
  }
  return (
    differs(status, config.issuer.url) ??
    ok('daemon', `it runs, version ${status.version}, and answers at ${where}`)
  )
}

function differs({ enrolled, issuer }: StatusDocument, url: string): Finding | null {
  if (enrolled && issuer.url === url) return null
  const has = enrolled ? `another configuration (${issuer.url})` : 'no configuration yet'
  return warning('daemon', `it runs with ${has}`, '`systemctl reload hostcertd`')
}
