import { AgentError } from '../../cert/errors.ts'
import { reasonOf } from '../../cert/text.ts'
import type { CredentialSource, IssuerConfig, Login } from '../../config/config.ts'
import { readBoundedFile } from '../../host/files.ts'

/** A token is a few KiB at most; servers refuse an HTTP header of more than 16 KiB. */
const LIMIT_BYTES = 16 * 1024

/** What is in a credential file. */
export type ReadCredentialFile = (path: string) => Promise<string>

/** Reads the file at each call: it may have been replaced. */
export const readCredentialFile: ReadCredentialFile = async (path) => readBoundedFile(path, LIMIT_BYTES)

/** Of an access token; servers refuse a longer HTTP header. */
export const LONGEST_TOKEN = 16 * 1024

const GIVEN = /^credential:([\w.-]+)$/

/**
 * For `credential:NAME` that nobody has resolved: what was given with the settings, else the file in systemd's folder.
 *
 * @param folder `$CREDENTIALS_DIRECTORY`
 * @returns reads other paths from the disk
 */
export function givenCredentials(
  credentials: Readonly<Record<string, string>>,
  folder: string | undefined,
): ReadCredentialFile {
  return async (path) => {
    const name = GIVEN.exec(path)?.[1]
    if (name === undefined) return readCredentialFile(path)
    const given = Object.hasOwn(credentials, name) ? credentials[name] : undefined
    if (given === undefined && folder === undefined) throw new Error('it was not given')
    if (given === undefined) return readCredentialFile(`${folder}/hostcertd_${name}`)
    if (Buffer.byteLength(given) <= LIMIT_BYTES) return given
    throw new Error(`it is longer than ${LIMIT_BYTES} bytes`)
  }
}

/** What an `Authorization` header can contain: no space, no control character. */
const TOKEN = /^[\x21-\x7e]+$/

/**
 * Read a credential.
 *
 * @param what its name in messages, `client secret`
 * @returns the text without the line ends after it
 * @throws AgentError CREDENTIAL_UNREADABLE, also for an empty file
 */
export async function readCredential(
  path: string,
  what: string,
  read: ReadCredentialFile = readCredentialFile,
): Promise<string> {
  let text: string
  try {
    text = (await read(path)).replace(/[\r\n]+$/, '')
  } catch (error) {
    throw new AgentError(
      'CREDENTIAL_UNREADABLE',
      `cannot read the ${what} from ${path}: ${reasonOf(error)}`,
      {
        cause: error,
      },
    )
  }
  if (text.trim() === '') throw new AgentError('CREDENTIAL_UNREADABLE', `the ${what} file ${path} is empty`)
  return text
}

/** Whether a text can be sent as a bearer token. */
export function isToken(text: string): boolean {
  return text.length <= LONGEST_TOKEN && TOKEN.test(text)
}

/**
 * Read every credential file of the login now: a verb that root runs becomes another user before it logs in. The
 * contents are kept in memory only.
 *
 * @returns reads from memory. A file that could not be read fails only if it is asked for
 */
export async function holdCredentials(
  issuer: IssuerConfig,
  read: ReadCredentialFile = readCredentialFile,
): Promise<ReadCredentialFile> {
  const paths = issuer.kind === 'http' ? credentialFiles(issuer.auth).map(({ path }) => path) : []
  const results = await Promise.allSettled(paths.map(async (path) => read(path)))
  const held = new Map(paths.map((path, index) => [path, results[index]]))
  return async (path) => {
    const result = held.get(path)
    if (result === undefined) return read(path)
    if (result.status === 'rejected') throw result.reason
    return result.value
  }
}

/** What is in a credential file, and who may read it. */
interface Form {
  /** One line that is sent as it is, rather than PEM or JSON. */
  readonly isOneLine: boolean
  /** Only the right user may read it, and the administrator decides who can. */
  readonly isSecret: boolean
  /** The kubelet writes it, and nobody else can. */
  readonly isProjected: boolean
}

const FORMS = {
  secret: { isOneLine: true, isSecret: true, isProjected: false },
  id: { isOneLine: true, isSecret: false, isProjected: false },
  /** Its mode is the platform's, which makes it readable by every user of the pod. */
  projected: { isOneLine: true, isSecret: false, isProjected: true },
  key: { isOneLine: false, isSecret: true, isProjected: false },
  certificate: { isOneLine: false, isSecret: false, isProjected: false },
} as const satisfies Readonly<Record<string, Form>>

/** A file that a login is configured to read. */
export interface CredentialFile extends Form {
  /** Its name in messages: `client secret`. */
  readonly what: string
  readonly path: string
}

/** Every file that a login is configured to read. */
export function credentialFiles(auth: Login): readonly CredentialFile[] {
  const files: CredentialFile[] = []
  const add = (what: string, path: string | null, form: keyof typeof FORMS = 'secret'): void => {
    if (path !== null) files.push({ what, path, ...FORMS[form] })
  }
  const addSource = (what: string, source: CredentialSource): void => {
    if ('file' in source) add(what, source.file, 'id')
  }
  if ('identityId' in auth) addSource('identity id', auth.identityId)
  switch (auth.method) {
    case 'universal-auth':
      addSource('client id', auth.clientId)
      add('client secret', auth.clientSecretFile)
      break
    case 'token':
      add('access token', auth.tokenFile)
      break
    case 'kubernetes':
      add('service account token', auth.tokenFile, 'projected')
      break
    case 'aws':
      add('access key id', auth.keys?.accessKeyIdFile ?? null, 'id')
      add('secret access key', auth.keys?.secretAccessKeyFile ?? null)
      add('session token', auth.keys?.sessionTokenFile ?? null)
      break
    case 'gcp':
      add('service account key', auth.keyFile, 'key')
      break
    case 'azure':
      break
    case 'oidc':
    case 'spiffe':
    case 'jwt':
      if ('file' in auth.jwt) add('JWT', auth.jwt.file)
      if ('keyFile' in auth.jwt) add('signing key', auth.jwt.keyFile, 'key')
      break
    case 'ldap':
      addSource('user name', auth.username)
      add('password', auth.passwordFile)
      break
    case 'tls-cert':
      add('client certificate', auth.certificateFile, 'certificate')
      add('key of the client certificate', auth.keyFile, 'key')
      break
    case 'oci':
      add('API signing key', auth.keyFile, 'key')
      break
    case 'alicloud':
      addSource('access key id', auth.accessKeyId)
      add('access key secret', auth.accessKeySecretFile)
      break
  }
  return files
}
