import { CLOCKS_DIFFER, SSHD_DOWN } from '../cert/errors.ts'
import type { Config } from '../config/config.ts'
import { SKEW_WARNING_SECONDS, type StatusDocument } from '../renewal/status-document.ts'
import { placeOf, type DaemonAnswer } from './daemon-client.ts'

/** Something that concerns the host as a whole: what `status` and `check` say below what they say of host keys. */
export interface Remark {
  readonly text: string
  /** What to do about it, commands between backticks; null where the text says it. */
  readonly remedy: string | null
}

/** For where there is one line: what, and behind an arrow what to do. */
export function remarkLine({ text, remedy }: Remark): string {
  return remedy === null ? text : `${text} -> ${remedy}`
}

export const START_DAEMON = '`systemctl enable --now hostcertd`; `journalctl -u hostcertd` tells why it ended'
export const RESTART_DAEMON =
  '`systemctl restart hostcertd`; `journalctl -u hostcertd` tells what it did last'

/** Remarks on the daemon, sshd, the root helper, the issuer and the clock. */
export function remarksOn(document: StatusDocument, answer: DaemonAnswer, { health }: Config): Remark[] {
  return [
    ...onDaemon(answer, health.listen),
    ...onSshd(document),
    ...onHelper(document),
    ...onIssuer(document),
    ...onClock(document),
  ]
}

/** `sshd has been down since TIME`; null unless it is. */
export function sshdDown({ sshd: { state, since } }: StatusDocument): string | null {
  if (state !== 'down') return null
  return since === null ? 'sshd is down' : `sshd has been down since ${since}`
}

function onDaemon(answer: DaemonAnswer, listen: Config['health']['listen']): Remark[] {
  const place = placeOf(listen)
  const without = 'this is what can be seen without it'
  switch (answer.kind) {
    case 'not-asked':
    case 'runs':
      return []
    case 'nobody':
      return [{ text: `the daemon does not answer; ${without}`, remedy: START_DAEMON }]
    case 'hangs':
      return [{ text: `the daemon ${hangingSince(answer.lastTurn)}; ${without}`, remedy: RESTART_DAEMON }]
    case 'silent':
      return [{ text: `who listens at ${place} does not answer; ${without}`, remedy: findOut(listen) }]
    case 'stranger':
      return [
        {
          text: `not the daemon, but another program answers at ${place}; ${without}`,
          remedy: takenBy(listen),
        },
      ]
    case 'denied':
      return [
        {
          text: `the daemon cannot be asked at ${place}: ${answer.why}; ${without}`,
          remedy: 'ask as root, or let others through the folders above the socket',
        },
      ]
  }
}

/** `hangs: it has not looked at anything since TIME`. */
export function hangingSince(lastTurn: string | null): string {
  return `hangs: it has not looked at anything${lastTurn === null ? ' yet' : ` since ${lastTurn}`}`
}

/** For a listener that may be the daemon, stuck, or another program. */
export function findOut(listen: Config['health']['listen']): string {
  return `\`${listeners(listen)}\` says who it is: if it is hostcertd, ${RESTART_DAEMON}`
}

/** For another program in the daemon's place. */
export function takenBy(listen: Config['health']['listen']): string {
  return `\`${listeners(listen)}\` says which: stop it, or set another health.listen and \`systemctl reload hostcertd\``
}

function listeners({ kind }: Config['health']['listen']): string {
  return kind === 'unix' ? 'ss -lxp' : 'ss -ltnp'
}

function onSshd(document: StatusDocument): Remark[] {
  const text = sshdDown(document)
  return text === null ? [] : [{ text, remedy: SSHD_DOWN.remedy }]
}

function onHelper({ notes }: StatusDocument): Remark[] {
  return notes.map((note) => ({ text: `the root helper reported: ${note}`, remedy: null }))
}

function onIssuer({ issuer: { url, reachable } }: StatusDocument): Remark[] {
  if (reachable !== false) return []
  return [
    {
      text: `the issuer ${url ?? ''} did not answer the last time it was asked`,
      remedy: '`hostcertd doctor` tells how far the way to it goes',
    },
  ]
}

function onClock({ issuer: { clock_skew_seconds: skew } }: StatusDocument): Remark[] {
  if (skew === null || Math.abs(skew) <= SKEW_WARNING_SECONDS) return []
  return [
    {
      text: `the issuer's clock and this host's differ by ${Math.round(Math.abs(skew))} s`,
      remedy: CLOCKS_DIFFER.remedy,
    },
  ]
}
