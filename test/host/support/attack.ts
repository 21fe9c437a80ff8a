import type { Outcome } from './commands.ts'
import type { Container } from './container.ts'
import { eventually } from './eventually.ts'

/** An attacker that is not told to stop ends by itself. */
const LONGEST_SECONDS = 900

/** Of every attacker: `begun()` once it is at work, and then work until `over()`. */
const FRAME = `
use strict; use Fcntl; use POSIX (); use Socket;
$SIG{PIPE} = 'IGNORE';
my $signs = shift @ARGV;
sub begun { open(my $f, '>', "$signs/begun") or die "begun: $!"; STDOUT->autoflush(1) }
sub over { -e "$signs/over" }
sub rest { select(undef, undef, undef, $_[0]) }
`

/** The words that run lines of Perl as a user of the host. */
export function perlAs(user: string, script: string, ...args: readonly string[]): readonly string[] {
  return ['runuser', '-u', user, '--', 'timeout', String(LONGEST_SECONDS), 'perl', '-e', script, ...args]
}

/**
 * Do something while a user of the host runs an attack.
 *
 * @param script Perl; it calls `begun()`, goes on until `over()`, and prints what the caller wants to know
 * @returns what the attacker printed, and what was done
 */
export async function underAttack<Done>(
  container: Container,
  user: string,
  script: string,
  args: readonly string[],
  work: () => Promise<Done>,
): Promise<{ readonly said: string; readonly done: Done }> {
  const signs = (await container.sh('d=$(mktemp -d /tmp/attack.XXXXXX); chmod 777 "$d"; echo "$d"')).trim()
  const options = { timeout: (LONGEST_SECONDS + 10) * 1000 }
  const attack: Promise<Outcome> = container.try(perlAs(user, FRAME + script, signs, ...args), options)
  let done: Done
  try {
    await eventually('the attack has begun', 20_000, async () => {
      return (await container.try(['test', '-e', `${signs}/begun`])).status === 0
    })
    done = await work()
  } finally {
    await container.run(['touch', `${signs}/over`])
    await attack.catch(() => undefined)
    await container.run(['rm', '-r', signs])
  }
  const { status, stdout, stderr } = await attack
  if (status !== 0) throw new Error(`the attack by ${user} ended with ${status}: ${stderr}`)
  return { said: stdout.trim(), done }
}
