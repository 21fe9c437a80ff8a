import { isAbsolute, join } from 'node:path'
import { mustBeUnquoted, value, type Reading } from './reading.ts'
import { isAbsolutePath } from './values.ts'

/** Where a secret is kept: `*_file` of the configuration. */
export type CredentialReference =
  | { readonly kind: 'path'; readonly path: string }
  | { readonly kind: 'credential'; readonly name: string }

const PREFIX = 'credential:'

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
 * configuration file, which is what systemd copies from; only root may read it.
 *
 * @param folder of the main configuration file
 */
export function credentialPath(
  reference: CredentialReference,
  folder: string,
  environment: Readonly<Record<string, string | undefined>>,
): string {
  if (reference.kind === 'path') return reference.path
  const given = environment['CREDENTIALS_DIRECTORY']
  return given !== undefined && isAbsolute(given)
    ? join(given, `hostcertd_${reference.name}`)
    : join(folder, 'credentials', reference.name)
}
