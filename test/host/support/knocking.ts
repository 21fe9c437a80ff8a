import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { outside, type Network } from './network.ts'

/** What a client saw that connects to sshd again and again. */
export interface Knocks {
  readonly answered: number
  /** An errno, or `silent` for a connection that ended without a greeting, for each that was not answered. */
  readonly refused: readonly string[]
}

/** Connects, waits for sshd's greeting, hangs up, and so on without pause until its stdin ends. */
const KNOCK = `
const { connect } = require('node:net')
const knocks = { answered: 0, refused: [] }
let go = true
process.stdin.resume().on('end', () => (go = false))
function knock() {
  if (!go) return console.log(JSON.stringify(knocks))
  let greeting = ''
  const socket = connect(22, process.argv[1])
  socket.on('data', (data) => { greeting += data; if (greeting.startsWith('SSH-2.0-')) socket.destroy() })
  socket.on('error', (error) => (greeting = error.code))
  socket.on('close', () => {
    if (greeting.startsWith('SSH-2.0-')) knocks.answered += 1
    else knocks.refused.push(greeting || 'silent')
    if (knocks.answered === 1) console.log('knocking')
    setImmediate(knock)
  })
}
knock()
`

/** Connect to a host's sshd without pause while something is done, one connection at a time. */
export async function knockWhile(network: Network, work: () => Promise<unknown>): Promise<Knocks> {
  const [program = '', ...words] = outside(network)
  const argv = [...words, process.execPath, '-e', KNOCK, network.hostAddress]
  const child = spawn(program, argv, { stdio: ['pipe', 'pipe', 'inherit'] })
  const ended = once(child, 'exit')
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  try {
    await lines.next()
    await work()
  } finally {
    child.stdin.end()
  }
  let last = ''
  for (let next = await lines.next(); next.done !== true; next = await lines.next()) last = next.value
  await ended
  return JSON.parse(last) as Knocks
}
