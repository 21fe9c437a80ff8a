/**
 * Signals that may come before there is a daemon to handle them. Node would end at SIGHUP, and at SIGUSR1 open its
 * debugger to all local users. So this is imported before everything else; for the 0.1 s until then the unit
 * gives the debugger an address that cannot be bound (`--inspect-port`), and in the first milliseconds, before Node
 * handles any signal, SIGUSR1 ends it.
 */
type Early = 'SIGHUP' | 'SIGUSR1'

const missed = new Set<Early>()
let hear = (signal: Early): void => void missed.add(signal)

// For other verbs SIGHUP means that the terminal was closed, and ends them. The exchange receives what is sent to the whole unit.
if (process.argv[2] === 'run' || process.argv[2] === 'exchange') process.on('SIGHUP', () => hear('SIGHUP'))
process.on('SIGUSR1', () => hear('SIGUSR1'))

/** From now on call this listener; first with the signals that came before. */
export function hearSignals(listener: (signal: Early) => void): void {
  hear = listener
  for (const signal of missed) listener(signal)
  missed.clear()
}
