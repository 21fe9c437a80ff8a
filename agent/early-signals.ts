/**
 * Signals that may come before there is a daemon to hear them. Node would end at the one, and at the other open its
 * debugger, which is a door for whoever is on the machine. So this is imported before everything else.
 */
type Early = 'SIGHUP' | 'SIGUSR1'

const missed = new Set<Early>()
let hear = (signal: Early): void => void missed.add(signal)

const IS_DAEMON = process.argv[2] === 'run'
// Elsewhere SIGHUP means that the terminal is gone, and ends the verb.
if (IS_DAEMON) process.on('SIGHUP', () => hear('SIGHUP'))
process.on('SIGUSR1', () => hear('SIGUSR1'))

/** From now on tell these; first what came before. */
export function hearSignals(listener: (signal: Early) => void): void {
  hear = listener
  for (const signal of missed) listener(signal)
  missed.clear()
}
