import type { Outcome } from './commands.ts'
import type { Container } from './container.ts'

const NODE = '/usr/lib/hostcertd/bin/node'
/** Connects, says a word, prints the answer; an errno on stderr when it cannot connect. */
const TALK = `
const socket = require('node:net').connect(process.argv[1])
socket.on('error', (error) => { console.error(error.code); process.exitCode = 1 })
socket.on('data', (data) => process.stdout.write(data))
socket.end(process.argv[2])
`

/** Say something to the root helper through its socket, as a user of the host. */
export async function askHelper(container: Container, user: string, words: string): Promise<Outcome> {
  const listen = await container.run([
    'systemctl',
    'show',
    '--value',
    '--property=Listen',
    'hostcertd-reload.socket',
  ])
  const [path = ''] = listen.trim().split(' ')
  return await container.try(['runuser', '-u', user, '--', NODE, '-e', TALK, path, words])
}
