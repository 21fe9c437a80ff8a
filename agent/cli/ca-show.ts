import { certAuthorityLine, hostPatternsOf } from '../cert/known-hosts.ts'
import { type PublicKey, publicKeyText } from '../cert/public-key.ts'
import { refusedCaWarning, upperCaseWarning } from '../cert/verify-issued.ts'
import type { HostKeyView } from '../renewal/judge.ts'
import { trustedCas } from '../renewal/trusted-cas.ts'
import { type CliContext, type ConfigOption, EXIT, observeOnce, requireConfig, VerbError } from './context.ts'

/** What clients read; `json` is for programs. */
export const CA_FORMATS = ['known-hosts', 'ssh-config', 'known-hosts-command', 'ansible', 'json'] as const

export type CaFormat = (typeof CA_FORMATS)[number]

export interface CaShowOptions extends ConfigOption {
  readonly format: CaFormat
  readonly json?: boolean
  /** Patterns of ssh_config(5); left out: those of this host's certificates. */
  readonly hosts?: readonly string[]
}

/** What a client needs to verify hosts by their certificates. */
interface Trust {
  readonly hosts: readonly string[]
  readonly cas: readonly PublicKey[]
}

/** `ca show`: the host CAs that this host trusts, as clients need them. */
export async function caShow(
  context: CliContext,
  options: CaShowOptions,
  signal: AbortSignal,
): Promise<number> {
  const config = await requireConfig(context, options)
  await context.dropPrivileges(config.stateDirectory)
  const { views, attempts, facts } = await observeOnce(context, config, false, signal)
  const certificates = views.flatMap(certificateInPlace)
  const trusted = trustedCas(facts.pinned, attempts.record)
  // Of certificates in place, that which the issuer named before counts as well: clients see it until they are replaced.
  const cas = eachOnce([...(trusted?.current ?? []), ...certificates.map(({ ca }) => ca)])
  if (cas.length === 0)
    throw new VerbError('no host CA is known yet: pin it in verify.host_ca_file, or get a certificate first')
  const hosts =
    // ssh compares `Host` in the case in which it is written, and known_hosts in lower case.
    options.hosts?.map((host) => host.toLowerCase()) ??
    hostPatternsOf(
      certificates.length > 0
        ? certificates.flatMap(({ principals }) => principals)
        : (config.verify.principals ?? []),
    )
  if (hosts.length === 0)
    throw new VerbError('no certificate names this host yet: name the hosts by --hosts PATTERN')
  const inUpperCase = upperCaseWarning(certificates.flatMap(({ principals }) => principals))
  if (inUpperCase !== null) context.err(`warning: ${inUpperCase}`)
  for (const warning of cas.flatMap((ca) => refusedCaWarning(ca) ?? [])) context.err(`warning: ${warning}`)
  if (facts.pinned === null)
    context.err(
      `warning: verify.host_ca_file pins no CA; shown is what ${trusted === null ? 'signed the certificates in place' : 'the issuer published'}: compare the fingerprint before clients trust it: ${cas.map(({ fingerprint }) => fingerprint).join(', ')}`,
    )
  context.out(TEXTS[options.json === true ? 'json' : options.format]({ hosts, cas }))
  return EXIT.ok
}

/** The certificate of a host key, when clients can use it. */
function certificateInPlace({ onDisk }: HostKeyView) {
  return onDisk.kind === 'usable' ? [onDisk.certificate] : []
}

function eachOnce(cas: readonly PublicKey[]): readonly PublicKey[] {
  return [...new Map(cas.map((ca) => [ca.fingerprint, ca])).values()]
}

const TEXTS: Readonly<Record<CaFormat, (trust: Trust) => string>> = {
  'known-hosts': ({ hosts, cas }) => linesText(cas.map((ca) => certAuthorityLine(hosts, ca))),
  'ssh-config': sshConfig,
  'known-hosts-command': ({ hosts, cas }) =>
    linesText([
      '#!/bin/sh',
      '# A KnownHostsCommand of ssh_config(5): prints the host CAs. For clients with OpenSSH 8.5 or later.',
      "cat <<'END'",
      ...commandLines({ hosts, cas }),
      'END',
    ]),
  ansible: ({ hosts, cas }) =>
    linesText([
      '# For the module ansible.builtin.known_hosts, which needs both values also to remove a CA (state: absent).',
      'hostcertd_known_hosts:',
      ...cas.flatMap((ca) => {
        const name = ownName(ca)
        return [`  - name: ${name}`, `    key: '${certAuthorityLine([...hosts, name], ca)}'`]
      }),
    ]),
  json: ({ hosts, cas }) =>
    `${JSON.stringify(
      {
        hosts,
        cas: cas.map((ca) => ({
          key_type: ca.type,
          fingerprint: ca.fingerprint,
          public_key: publicKeyText(ca),
          known_hosts: certAuthorityLine(hosts, ca),
        })),
      },
      null,
      2,
    )}\n`,
}

/**
 * Lines that a KnownHostsCommand prints. With a port other than 22, ssh asks it for `[host]:port` only, and a file also
 * for the host alone (seen with 9.2).
 */
function commandLines({ hosts, cas }: Trust): readonly string[] {
  return cas.map((ca) => certAuthorityLine([...hosts, ...hosts.map((host) => `[${host}]:*`)], ca))
}

/** All in one file: the CAs are printed by a program that every client has. */
function sshConfig({ hosts, cas }: Trust): string {
  const domains = hosts.flatMap((host) => /^\*\.([\w.-]+)$/.exec(host)?.[1] ?? [])
  const [example = 'web1.example.com'] = hosts.map((host) =>
    host.replaceAll('*', 'web1').replaceAll('?', '1'),
  )
  // KnownHostsCommand expands %, and runs no shell; single quotes end an argument there, and no line has one.
  const lines = commandLines({ hosts, cas }).map((line) => `'${line}'`)
  const command = `    KnownHostsCommand /usr/bin/printf '%%s\\n' ${lines.join(' ')}`
  return linesText([
    '# For /etc/ssh/ssh_config.d or ~/.ssh/config of clients with OpenSSH 8.5 or later.',
    ...(domains.length === 0
      ? []
      : [
          '# Certificates name hosts with their domain: let `ssh web1` ask for it.',
          'CanonicalizeHostname yes',
          'CanonicalizeMaxDots 0',
          `CanonicalDomains ${domains.join(' ')}`,
        ]),
    `Host ${hosts.join(' ')}`,
    command,
    '# For a name or an address that is not in the certificate of a host, add it to the line `Host` above, and:',
    '#Host 192.0.2.7',
    `#    HostKeyAlias ${example}`,
    '# What follows is for all hosts again.',
    'Host *',
  ])
}

/**
 * A name that only the line of this CA has. Ansible's module replaces a line with a key of the same type that stands
 * for the same name, and a pattern stands for all of its names. RFC 2606: no host is ever called so.
 */
function ownName({ fingerprint }: PublicKey): string {
  const digest = Buffer.from(fingerprint.replace('SHA256:', ''), 'base64').toString('hex')
  return `host-ca-${digest.slice(0, 16)}.invalid`
}

function linesText(lines: readonly string[]): string {
  return `${lines.join('\n')}\n`
}
