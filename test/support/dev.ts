/**
 * `npm run dev [-- OPTION OF NODE…]`: the daemon from source, against the demo's issuer and an sshd of its own. Starts
 * anew whenever a file of it changes, with the state it had. `-- --inspect` opens the debugger.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { argv, execPath, exit } from 'node:process'
import { fileURLToPath } from 'node:url'
import { makeWorld } from './world.ts'

const TTL_SECONDS = 300
const MAIN = fileURLToPath(new URL('../../agent/main.ts', import.meta.url))

async function run(): Promise<number> {
  await using world = await makeWorld({ ttlSeconds: TTL_SECONDS })
  const { agent, issuer, sshd } = world
  await agent.configure(world.configWith({ log: { format: 'pretty', level: 'debug' } }))
  const config = `--config ${agent.configPath}`
  console.log(
    [
      `issuer ${issuer.url}, whose certificates last ${TTL_SECONDS} s; sshd at 127.0.0.1:${sshd.port}`,
      'in another terminal, from source:',
      `  node agent/main.ts status ${config}`,
      `  node agent/main.ts renew --force ${config}`,
      'Ctrl-C ends all of it and removes what it made.',
    ].join('\n'),
  )
  const options = ['--watch', '--watch-preserve-output', ...argv.slice(2)]
  const child = spawn(execPath, [...options, MAIN, 'run', '--config', agent.configPath], {
    stdio: 'inherit',
    // Ctrl-C and the end of the terminal reach only this process, which then ends the daemon in an orderly way.
    detached: true,
  })
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => child.kill('SIGTERM'))
  const [status] = (await once(child, 'exit')) as [number | null]
  return status ?? 0
}

exit(await run())
