import { once } from 'node:events'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { sshString, uint32 } from '../cert/craft.ts'

/** A server on 127.0.0.1 that does what a test says; `await using` ends it with its connections. */
export interface HostileServer extends AsyncDisposable {
  readonly port: number
  /** How often somebody connected. */
  readonly connections: number
}

export async function startHostileServer(onConnection: (socket: Socket) => void): Promise<HostileServer> {
  const sockets = new Set<Socket>()
  let connections = 0
  const server = createServer((socket) => {
    connections += 1
    sockets.add(socket)
    socket.on('error', () => undefined)
    onConnection(socket)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    get connections() {
      return connections
    },
    [Symbol.asyncDispose]: async () => {
      const closed = once(server, 'close')
      server.close()
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}

export const BANNER = 'SSH-2.0-test\r\n'

/** SSH_MSG_DISCONNECT with a text: RFC 4253, section 11.1. */
export function disconnect(text: string): Buffer {
  return packet(Buffer.concat([Buffer.of(1), uint32(11), sshString(text), sshString('')]))
}

/** SSH_MSG_KEXINIT, RFC 4253, section 7.1; what is left out every ssh knows. */
export function keyExchangeInit(wish: {
  readonly hostKeys: string
  readonly kex?: string
  readonly cipher?: string
}): Buffer {
  const cipher = sshString(wish.cipher ?? 'aes128-ctr')
  const [mac, none, empty] = [sshString('hmac-sha2-256'), sshString('none'), sshString('')]
  const lists = [sshString(wish.kex ?? 'curve25519-sha256'), sshString(wish.hostKeys), cipher, cipher]
  lists.push(mac, mac, none, none, empty, empty)
  return packet(Buffer.concat([Buffer.of(20), Buffer.alloc(16), ...lists, Buffer.of(0), uint32(0)]))
}

/** RFC 4253, section 6, before any encryption. */
function packet(payload: Buffer): Buffer {
  const padding = Buffer.alloc(16 - ((payload.length + 5) % 8))
  return Buffer.concat([
    uint32(1 + payload.length + padding.length),
    Buffer.of(padding.length),
    payload,
    padding,
  ])
}
