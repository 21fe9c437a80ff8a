import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { AgentError } from '../cert/errors.ts'
import { oneLine, reasonOf } from '../cert/text.ts'
import { tryParse } from '../cert/verify-issued.ts'
import { isGone } from '../host/files.ts'
import { runProgram } from '../host/programs.ts'
import { hostIdIn } from '../issuer/host-questions.ts'
import type { ServiceFiles, ServiceState } from './change.ts'

/*
 * What the service keeps in its own folder: certificates and their attempts. Another user could replace a file there by a
 * link at any time, so root never reads or writes in it: programs do, as the owner of the folder. Every function throws
 * AgentError STORE_FAILED with the folder and the reason, also if a program does not answer: then nothing is known.
 */

const MILLISECONDS = 10_000
/** Enough for hundreds of files; a dozen is usual. */
const LONGEST_LIST_BYTES = 64 * 1024
/** Never removed: a process that waits for it would go on waiting for the removed file. */
const LOCK = 'lock'

/**
 * List everything in the folder of a service.
 *
 * @returns paths below it, a folder before what is in it; none when there is no such folder
 */
export async function listServiceState(folder: string): Promise<readonly string[]> {
  const user = await ownerOf(folder)
  if (user === null) return []
  const list = ['find', `${folder}/`, '-mindepth', '1', '-printf', String.raw`%P\0`]
  const text = await runAs(user, list, `cannot list ${folder}`)
  if (text !== '' && !text.endsWith('\0'))
    throw new AgentError('STORE_FAILED', `cannot list ${folder}: there are too many files in it`)
  return text.split('\0').slice(0, -1)
}

/** Remove what was not there before. The service is stopped. */
export async function removeServiceState({ folder, before }: ServiceState): Promise<void> {
  const added = (await listServiceState(folder)).filter((path) => path !== LOCK && !before.includes(path))
  const topmost = added.filter((path) => !added.some((above) => path.startsWith(`${above}/`)))
  const user = await ownerOf(folder)
  if (user === null || topmost.length === 0) return
  const paths = topmost.map((path) => join(folder, path))
  await runAs(user, ['rm', '-rf', '--', ...paths], `cannot remove files in ${folder}`)
}

/** Read the certificates that the service keeps. */
export async function readCertificates(folder: string): Promise<ServiceFiles> {
  const paths = (await listServiceState(folder)).filter((path) => /^certs\/[^/]+-cert\.pub$/.test(path))
  const user = await ownerOf(folder)
  const files: { path: string; text: string }[] = []
  if (user === null) return { folder, files }
  for (const path of paths) {
    const text = await runAs(user, ['cat', '--', join(folder, path)], `cannot read ${join(folder, path)}`)
    files.push({ path, text })
  }
  return { folder, files }
}

/**
 * Those that are for a host other than this one, by their key ids: the service would keep renewing them. One whose key id
 * has another form is left out. Pure.
 */
export function ofOthers({ folder, files }: ServiceFiles, hostId: string): ServiceFiles {
  const isOther = (text: string): boolean => {
    const parsed = tryParse(text)
    const id = parsed.ok ? hostIdIn(parsed.certificate.keyId) : null
    return id !== null && id !== hostId.toLowerCase()
  }
  return { folder, files: files.filter(({ text }) => isOther(text)) }
}

/** Remove them. The service is stopped. */
export async function removeServiceFiles({ folder, files }: ServiceFiles): Promise<void> {
  const user = await ownerOf(folder)
  if (user === null || files.length === 0) return
  const paths = files.map(({ path }) => join(folder, path))
  await runAs(user, ['rm', '-f', '--', ...paths], `cannot remove files in ${folder}`)
}

/** Put them back. The service is stopped. */
export async function writeServiceFiles({ folder, files }: ServiceFiles): Promise<void> {
  const user = await ownerOf(folder)
  if (user === null) return
  for (const { path, text } of files) {
    const write = 'umask 022 && printf %s "$2" >"$1.before" && mv -fT -- "$1.before" "$1"'
    const file = join(folder, path)
    await runAs(user, ['sh', '-c', write, 'sh', file, text], `cannot write ${file}`)
  }
}

interface User {
  readonly uid: number
  readonly gid: number
}

async function ownerOf(folder: string): Promise<User | null> {
  try {
    const { uid, gid } = await stat(folder)
    return { uid, gid }
  } catch (error) {
    if (isGone(error)) return null
    throw new AgentError('STORE_FAILED', `cannot find the owner of ${folder}: ${reasonOf(error)}`, {
      cause: error,
    })
  }
}

/**
 * @param failed what could not be done if it fails, for people
 * @returns its standard output
 */
async function runAs(user: User, argv: readonly string[], failed: string): Promise<string> {
  const { status, failure, stdout, stderr } = await runProgram(argv, {
    timeoutMilliseconds: MILLISECONDS,
    outputBytes: LONGEST_LIST_BYTES,
    environment: { LC_ALL: 'C', PATH: process.env['PATH'] ?? '' },
    user,
  })
  if (status === 0) return stdout
  const why = failure ?? `${argv[0]} ended with status ${status}: ${stderr}`
  throw new AgentError('STORE_FAILED', `${failed}: ${oneLine(why)}`)
}
