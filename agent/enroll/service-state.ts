import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { oneLine } from '../cert/text.ts'
import { tryParse } from '../cert/verify-issued.ts'
import { isGone } from '../host/files.ts'
import { runProgram } from '../host/programs.ts'
import { hostIdIn } from '../issuer/host-questions.ts'
import type { ServiceFiles, ServiceState } from './change.ts'

/*
 * What the service keeps in its own folder: certificates and the attempt record. The owner of that folder could replace
 * files in it with links at any time, so root lists, reads and removes nothing there: programs run as that owner do.
 */

const MILLISECONDS = 10_000
/** Enough for hundreds of files; a dozen is usual. */
const LONGEST_LIST_BYTES = 64 * 1024
/** Not removed: a process that waits for it would then hold the lock of a deleted file. */
const LOCK = 'lock'

/**
 * List everything in the folder of a service.
 *
 * @returns paths below it, a folder before what is in it; none when there is no such folder
 * @throws Error when that is not known
 */
export async function listServiceState(folder: string): Promise<readonly string[]> {
  const user = await ownerOf(folder)
  if (user === null) return []
  const text = await runAs(user, ['find', `${folder}/`, '-mindepth', '1', '-printf', String.raw`%P\0`])
  if (text !== '' && !text.endsWith('\0')) throw new Error(`there are too many files in ${folder}`)
  return text.split('\0').slice(0, -1)
}

/** Remove what was not there before. The service is stopped. @throws Error with what is in the way */
export async function removeServiceState({ folder, before }: ServiceState): Promise<void> {
  const added = (await listServiceState(folder)).filter((path) => path !== LOCK && !before.includes(path))
  const topmost = added.filter((path) => !added.some((above) => path.startsWith(`${above}/`)))
  const user = await ownerOf(folder)
  if (user === null || topmost.length === 0) return
  await runAs(user, ['rm', '-rf', '--', ...topmost.map((path) => join(folder, path))])
}

/**
 * Read the certificates that the service keeps for a host other than this one, by their key ids: it would keep renewing
 * them. Those whose key id has another form are left out.
 */
export async function readCertificatesOfOthers(folder: string, hostId: string): Promise<ServiceFiles> {
  const paths = (await listServiceState(folder)).filter((path) => /^certs\/[^/]+-cert\.pub$/.test(path))
  const user = await ownerOf(folder)
  const files: { path: string; text: string }[] = []
  if (user === null) return { folder, files }
  for (const path of paths) {
    const text = await runAs(user, ['cat', '--', join(folder, path)])
    const parsed = tryParse(text)
    const id = parsed.ok ? hostIdIn(parsed.certificate.keyId) : null
    if (id !== null && id !== hostId.toLowerCase()) files.push({ path, text })
  }
  return { folder, files }
}

/** Remove them. The service is stopped. @throws Error with what is in the way */
export async function removeServiceFiles({ folder, files }: ServiceFiles): Promise<void> {
  const user = await ownerOf(folder)
  if (user === null || files.length === 0) return
  await runAs(user, ['rm', '-f', '--', ...files.map(({ path }) => join(folder, path))])
}

/** Put them back. The service is stopped. @throws Error with what is in the way */
export async function writeServiceFiles({ folder, files }: ServiceFiles): Promise<void> {
  const user = await ownerOf(folder)
  if (user === null) return
  for (const { path, text } of files) {
    const write = 'umask 022 && printf %s "$2" >"$1.before" && mv -fT -- "$1.before" "$1"'
    await runAs(user, ['sh', '-c', write, 'sh', join(folder, path), text])
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
    throw error
  }
}

/** @returns its standard output */
async function runAs(user: User, argv: readonly string[]): Promise<string> {
  const { status, failure, stdout, stderr } = await runProgram(argv, {
    timeoutMilliseconds: MILLISECONDS,
    outputBytes: LONGEST_LIST_BYTES,
    environment: { LC_ALL: 'C', PATH: process.env['PATH'] ?? '' },
    user,
  })
  if (status === 0) return stdout
  throw new Error(oneLine(failure ?? `${argv[0]} ended with status ${status}: ${stderr}`))
}
