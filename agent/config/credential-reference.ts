import { existsSync } from 'node:fs'
import { isAbsolute, join } from 'node:path'
import { isAbsolutePath, mustBeUnquoted, type Reading, value } from './values.ts'

/** Where a secret is kept: `*_file` of the configuration. */
export type CredentialReference =
  | { readonly kind: 'path'; readonly path: string }
  | { readonly kind: 'credential'; readonly name: string }

const PREFIX = 'credential:'
/** Main folder of an installed host. */
const PACKAGED_FOLDER = '/etc/hostcertd'
/** systemd's stores (systemd.exec(5), `ImportCredential=`), as far as what is in them is not encrypted. */
export const CREDENTIAL_STORES = ['/etc/credstore', '/run/credstore', '/usr/lib/credstore']

/** An absolute path, or `credential:NAME`. The message does not quote the text: it may be the secret itself. */
export function readCredentialReference(text: string): Reading<CredentialReference> {
  if (text.startsWith(PREFIX)) {
    const name = text.slice(PREFIX.length)
    if (!/^[\w.-]{1,200}$/.test(name) || name.includes('..') || name === '.')
      return mustBeUnquoted('credential: and a name of letters, digits, dots, dashes and underscores')
    return value({ kind: 'credential', name })
  }
  if (!isAbsolutePath(text))
    return mustBeUnquoted('the absolute path of a file that holds it, or credential:NAME')
  return value({ kind: 'path', path: text })
}

/**
 * The file that a reference means. Whether it can be read shows at its use, as CREDENTIAL_UNREADABLE: most verbs need
 * no credential, and they run where none can be read.
 *
 * Under systemd it is `$CREDENTIALS_DIRECTORY/hostcertd_NAME`: systemd.exec(5), `LoadCredential=` of the folder
 * /etc/hostcertd/credentials. A verb run by hand has no such folder and takes `credentials/NAME` beside the main
 * configuration file, which is what systemd copies from; only root may read it. When there is none on an installed host,
 * the credential comes from one of systemd's stores.
 *
 * @param folder of the main configuration file
 * @param isThere whether a file exists, as far as this user can see
 */
export function credentialPath(
  reference: CredentialReference,
  folder: string,
  environment: Readonly<Record<string, string | undefined>>,
  isThere: (path: string) => boolean = existsSync,
): string {
  if (reference.kind === 'path') return reference.path
  const given = environment['CREDENTIALS_DIRECTORY']
  const systemds = `hostcertd_${reference.name}`
  if (given !== undefined && isAbsolute(given)) return join(given, systemds)
  const own = join(folder, 'credentials', reference.name)
  if (folder !== PACKAGED_FOLDER || isThere(own)) return own
  return CREDENTIAL_STORES.map((store) => join(store, systemds)).find(isThere) ?? own
}

/** What `credential:NAME` depends on. */
export interface CredentialContext {
  /** Of the main configuration file. */
  readonly folder: string
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Leave `credential:NAME` as it is: whoever uses it knows what it holds. Default: false. */
  readonly keepsCredentialNames?: boolean | undefined
}
