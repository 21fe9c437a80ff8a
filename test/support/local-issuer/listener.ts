import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { TlsCertificate } from './tls-certificate.ts'

/** A port of one address that can be closed with all its connections, and opened again. */
export class Listener {
  readonly #address: string
  readonly #tls: TlsCertificate | null
  readonly #handle: RequestListener
  readonly #sockets = new Set<Socket>()
  #server: Server | null = null
  #port: number

  /** @param port 0: any that is free, at the first start; the same from then on */
  constructor(address: string, port: number, tls: TlsCertificate | null, handle: RequestListener) {
    this.#address = address
    this.#port = port
    this.#tls = tls
    this.#handle = handle
  }

  get port(): number {
    return this.#port
  }

  /** @throws when the port is taken */
  async open(): Promise<void> {
    if (this.#server !== null) return
    const server =
      this.#tls === null
        ? createServer(this.#handle)
        : createTlsServer({ key: this.#tls.key, cert: this.#tls.certificate }, this.#handle)
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket)
      socket.once('close', () => this.#sockets.delete(socket))
    })
    server.listen(this.#port, this.#address)
    await once(server, 'listening')
    this.#port = (server.address() as AddressInfo).port
    this.#server = server
  }

  async close(): Promise<void> {
    const server = this.#server
    if (server === null) return
    this.#server = null
    const closed = once(server, 'close')
    server.close()
    // Sockets in their TLS handshake are none of the HTTP server's, so its own way to close all would miss them.
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }
}
