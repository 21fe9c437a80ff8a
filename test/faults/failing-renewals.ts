import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { certificateOnDisk, isServed } from '../support/looks.ts'
import { makeWorld, type World } from '../support/world.ts'
import { measuredVerb } from './injection.ts'
import { report } from './rows.ts'

/** `issuer.timeout` where the issuer must not answer in time, and where it must. */
const TIMEOUT = { short: '1s', long: '20s' }
/** That it ends at all, with Node's own start and end on a busy machine; and sooner than by the usual time limit of 30 s. */
const MOST_SECONDS = { short: 20, long: 40 }
/** A bare exchange takes 70 to 80 MiB for a moment. */
const MOST_MIB = 200

/** One way in which `renew --force` must fail, or, with the code null, succeed. */
export interface Attempt {
  readonly name: string
  /** The error code that it must name. */
  readonly code: string | null
  /** What its messages must match as well. */
  readonly words?: RegExp
  /** What none of its messages may contain. */
  readonly secret?: string
  /** Laid over the usual configuration. */
  readonly config?: { readonly issuer?: object; readonly sshd?: object }
  readonly environment?: Readonly<Record<string, string>>
  /** A program, with arguments, that starts it. */
  readonly wrapper?: readonly string[]
}

/** A host with a certificate, `renew --force` under one fault after the other, and everything that was wrong with it. */
export class FailingRenewals implements AsyncDisposable {
  readonly world: World
  readonly flaws: string[] = []
  /** Of the section `issuer` in each configuration. */
  readonly #issuer: object
  #placed: string
  #tried = 0
  #lost = 0
  #longest = 0
  #peakMib = 0

  private constructor(world: World, issuer: object, placed: string) {
    this.world = world
    this.#issuer = issuer
    this.#placed = placed
  }

  static async start({ https = false } = {}): Promise<FailingRenewals> {
    const world = await makeWorld({ sshd: { hostKeyTypes: ['ed25519'] }, issuer: { https } })
    const issuer = https ? { ca_file: world.issuer.tlsCaFile } : {}
    await world.agent.configure(world.configWith({ issuer }))
    const { status, stderr } = await world.agent.verb('renew')
    const placed = await certificateOnDisk(world, 'ed25519')
    if (status === 0 && placed !== null) return new FailingRenewals(world, issuer, placed)
    await world[Symbol.asyncDispose]()
    throw new Error(stderr)
  }

  /** @returns what it wrote to standard error */
  async attempt({ name, code, words, secret, config = {}, ...how }: Attempt): Promise<string> {
    const { agent } = this.world
    const timeout = code === 'ISSUER_TIMEOUT' ? TIMEOUT.short : TIMEOUT.long
    const issuer = { timeout, ...this.#issuer, ...config.issuer }
    await agent.configure(this.world.configWith({ ...config, issuer }))
    const renew = ['renew', '--force']
    const got = await measuredVerb(agent.configPath, renew, how.wrapper, how.environment)
    this.#tried += 1
    this.#longest = Math.max(this.#longest, got.seconds)
    this.#peakMib = Math.max(this.#peakMib, got.peakMib)
    const { status, signal, stderr, seconds } = got
    const note = (flaw: string): void => void this.flaws.push(`${name}: ${flaw}`)
    if (status !== (code === null ? 0 : 1)) note(`status ${status}, ${signal}: ${stderr}`)
    if (code !== null && !stderr.includes(`${code}: `)) note(`not ${code}: ${stderr}`)
    if (words !== undefined && !words.test(stderr)) note(`not ${words}: ${stderr}`)
    if (secret !== undefined && stderr.includes(secret)) note(`a secret is shown: ${stderr}`)
    if (seconds > MOST_SECONDS[code === 'ISSUER_TIMEOUT' ? 'short' : 'long']) note(`${seconds} s`)
    if (got.peakMib > MOST_MIB) note(`${got.peakMib} MiB`)
    const now = await certificateOnDisk(this.world, 'ed25519')
    const isOurs = this.world.issuer.issued.some(({ line }) => now !== null && line.startsWith(now))
    if (!isOurs) {
      this.#lost += 1
      note('the certificate in place was lost')
    } else if ((now === this.#placed) !== (code !== null)) {
      note(code === null ? 'no new certificate' : 'a new certificate')
    }
    if (now !== null) this.#placed = now
    return stderr
  }

  /** Renew without a fault, and report all of it as one row. */
  async report(fault: string): Promise<void> {
    const began = performance.now()
    await this.world.agent.configure(this.world.configWith({ issuer: this.#issuer }))
    const { status, stderr } = await this.world.agent.verb('renew', '--force')
    if (status !== 0 || !(await isServed(this.world, 'ed25519')))
      this.flaws.push(`it does not recover: ${stderr}`)
    await report({
      part: 'Network',
      fault,
      tried: this.#tried,
      lost: this.#lost,
      wrong: this.flaws.length - this.#lost,
      recoveredSeconds: (performance.now() - began) / 1000,
      remark: `ended within ${this.#longest.toFixed(1)} s, at most ${this.#peakMib.toFixed(0)} MiB resident`,
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.world[Symbol.asyncDispose]()
  }
}

/** A server on a free port of 127.0.0.1. `await using` closes it with all its connections. */
export class Port implements AsyncDisposable {
  readonly number: number
  readonly #server: Server
  readonly #sockets: ReadonlySet<Socket>

  private constructor(server: Server, sockets: ReadonlySet<Socket>) {
    this.#server = server
    this.#sockets = sockets
    this.number = (server.address() as AddressInfo).port
  }

  static async of(server: Server): Promise<Port> {
    const sockets = new Set<Socket>()
    server.on('connection', (socket: Socket) => {
      sockets.add(socket)
      socket.on('error', () => {})
      socket.once('close', () => sockets.delete(socket))
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return new Port(server, sockets)
  }

  /** @param answer what is done with each connection, from its first byte on */
  static async answering(answer: (socket: Socket) => void): Promise<Port> {
    return Port.of(createServer((socket) => void socket.once('data', () => answer(socket))))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve))
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }
}

/** Sends until the other side has gone, and waits while it does not read. */
export function flood(socket: Socket, text: string | Buffer): void {
  const send = (): void => {
    while (!socket.destroyed && socket.write(text));
    if (!socket.destroyed) socket.once('drain', send)
  }
  send()
}
