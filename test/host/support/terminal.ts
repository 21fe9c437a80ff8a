import type { Outcome } from './commands.ts'
import type { Container } from './container.ts'

/** What a person types, each once the text before it has appeared. */
export type Typed = readonly (readonly [prompt: string, text: string])[]

const SEEN = '/run/terminal'
/** For each prompt to appear. */
const SECONDS = 20

/**
 * Run a command as a person at a terminal of 80 columns does, by util-linux's script(1).
 *
 * @returns its exit status; `stdout` is all that the terminal showed, with `\n` for an end of line
 */
export async function atTerminal(container: Container, line: string, typed: Typed): Promise<Outcome> {
  await container.write('/root/line.sh', `stty columns 80\n${line}\n`)
  await container.write('/root/typed.sh', typed.map(typing).join('\n'))
  const outcome = await container.try([
    'sh',
    '-c',
    `: >${SEEN}; sh /root/typed.sh | TERM=xterm script --quiet --flush --return --command 'sh /root/line.sh' ${SEEN}`,
  ])
  await container.sh(`rm -f ${SEEN} /root/line.sh /root/typed.sh`)
  return { ...outcome, stdout: outcome.stdout.replaceAll(/\r+\n/g, '\n') }
}

/** What is typed ahead would be shown by the terminal, whatever the program wants. */
function typing([prompt, text]: Typed[number]): string {
  const [wanted, answer] = [prompt, `${text}\r`].map((one) => `'${one.replaceAll("'", String.raw`'\''`)}'`)
  return `for i in $(seq ${SECONDS * 10}); do grep -qF -e ${wanted} ${SEEN} && break; sleep 0.1; done; sleep 0.2; printf %s ${answer}`
}
