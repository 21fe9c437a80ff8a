import { once } from 'node:events'
import { lstat, unlink } from 'node:fs/promises'
import { connect, type ListenOptions, type Server } from 'node:net'
import { messageOf } from '../cert/errors.ts'
import { hostAndPort } from '../cert/text.ts'

/** Where the server listens: `health.listen` of the configuration. */
export type ListenAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'none' }

/**
 * Listen. A socket file whose process is dead is replaced; one that is in use, or a file that is not
 * a socket, is left alone. Every local user may connect to a socket file (0666): monitors run as users of their own.
 *
 * @returns where it listens, for people
 * @throws Error that names the address
 */
export async function listenOn(
  server: Server,
  address: Exclude<ListenAddress, { kind: 'none' }>,
): Promise<string> {
  try {
    if (address.kind === 'unix') await removeStaleSocket(address.path)
    await listening(server, optionsOf(address))
  } catch (error) {
    throw new Error(`cannot listen on ${nameOf(address, null)}: ${messageOf(error)}`, { cause: error })
  }
  return nameOf(address, server)
}

async function listening(server: Server, options: ListenOptions): Promise<void> {
  const done = once(server, 'listening') // rejects on 'error'
  server.listen(options)
  await done
}

function optionsOf(address: Exclude<ListenAddress, { kind: 'none' }>): ListenOptions {
  switch (address.kind) {
    case 'tcp':
      return { host: address.host, port: address.port }
    case 'unix':
      return { path: address.path, readableAll: true, writableAll: true }
  }
}

function nameOf(address: Exclude<ListenAddress, { kind: 'none' }>, server: Server | null): string {
  if (address.kind === 'unix') return `unix:${address.path}`
  const bound = server?.address()
  const port = typeof bound === 'object' && bound !== null ? bound.port : address.port
  return hostAndPort(address.host, port)
}

async function removeStaleSocket(path: string): Promise<void> {
  const found = await lstatOrNull(path)
  if (found === null) return
  if (!found.isSocket()) throw new Error('there is a file that is no socket')
  if (!(await isRefused(path))) throw new Error('another process may be listening there')
  await unlink(path)
}

async function lstatOrNull(path: string): Promise<{ isSocket(): boolean } | null> {
  try {
    return await lstat(path)
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null
    throw error
  }
}

/** connect(2) on a socket file fails with ECONNREFUSED only when no process listens on it; a full queue is EAGAIN. */
async function isRefused(path: string): Promise<boolean> {
  const socket = connect(path)
  try {
    await once(socket, 'connect')
    return false
  } catch (error) {
    return codeOf(error) === 'ECONNREFUSED'
  } finally {
    socket.destroy()
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : null
}
