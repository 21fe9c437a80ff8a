import { formatTime, parseTime, type UnixSeconds } from '../../cert/time.ts'
import { type CertificateStatus, readinessOf, type StatusDocument } from '../../renewal/status-document.ts'
import { count, day, isBare, minute, type PageView, second, type Tone, toneOf } from './words.ts'

/**
 * How this host stands, in a few words and a sentence. Screen readers read it out whenever it changes, so it changes with
 * the state and not with the time: no countdowns.
 */
interface Verdict {
  readonly tone: Tone
  readonly title: string
  /** With commands between backticks. */
  readonly detail: string
}

type Title = (number: number) => string

/** What makes the host not ready, and what to say of it. */
interface Grave {
  readonly is: (certificate: CertificateStatus) => boolean
  readonly title: Title
  readonly detail: string
}

const CLIENTS_ARE_ASKED = 'Clients that trust only the CA are refused, or ask their users about the host key'

/** The gravest first. */
const GRAVE: readonly Grave[] = [
  {
    is: ({ state }) => state === 'expired',
    title: (number) => `${count(number, 'certificate')} expired`,
    detail: CLIENTS_ARE_ASKED,
  },
  {
    is: ({ state }) => state === 'absent',
    title: (number) => `${count(number, 'host key')} without a certificate`,
    detail: CLIENTS_ARE_ASKED,
  },
  {
    is: isBare,
    title: (number) => `${count(number, 'certificate')} not served`,
    detail: `What lies on disk is good, but sshd presents no usable certificate. ${CLIENTS_ARE_ASKED}`,
  },
  {
    is: ({ state }) => state === 'invalid',
    title: (number) => `${count(number, 'certificate')} unusable`,
    detail: 'What lies on disk does not pass the checks',
  },
  {
    is: ({ state }) => state === 'overdue',
    title: (number) => `${count(number, 'renewal')} overdue`,
    detail: 'The certificate still holds, but a new one should have come by now',
  },
  {
    is: ({ state }) => state === 'unconfirmed',
    title: (number) => `${count(number, 'certificate')} not served`,
    detail: 'What lies on disk is good, but sshd was not seen to present it',
  },
]

/** The same judgement as `/readyz`, in words. */
export function verdictOf({ status, live, now }: PageView): Verdict {
  if (!live.ok) {
    const since = live.lastTurn === null ? '' : ` since ${second(formatTime(live.lastTurn) ?? '')} UTC`
    return {
      tone: 'bad',
      title: 'hostcertd hangs',
      detail: `It has not looked at anything${since}. What stands below may be old; try \`systemctl restart hostcertd\``,
    }
  }
  if (status === null) {
    return { tone: 'busy', title: 'Starting', detail: 'Looking at everything for the first time' }
  }
  if (!status.enrolled) {
    return {
      tone: 'idle',
      title: 'Not enrolled',
      detail:
        'This host has no configuration, so it asks for no certificates. Put a configuration in place, as hostcertd.yaml(5) has it: hostcertd looks for one each minute',
    }
  }
  return enrolled(status, now)
}

function enrolled(status: StatusDocument, now: UnixSeconds): Verdict {
  const { certificates } = status
  for (const { is, title, detail } of GRAVE) {
    const [first, ...others] = certificates.filter(is)
    if (first === undefined) continue
    const issuer = status.issuer.reachable === false ? '. The issuer does not answer' : ''
    const sshd = status.sshd.state === 'down' ? '. sshd is down' : ''
    return { tone: toneOf(first), title: title(1 + others.length), detail: `${detail}${issuer}${sshd}` }
  }
  const readiness = readinessOf(status, null, now)
  if (readiness?.reason === 'no-host-key') {
    const detail = 'There is no host key that the issuer signs and sshd offers'
    return { tone: 'bad', title: 'Nothing to certify', detail }
  }
  if (readiness?.status === 'fail') {
    return { tone: 'warn', title: 'Not ready', detail: 'sshd was not seen to present every certificate' }
  }
  if (status.sshd.state === 'down') {
    const detail = 'Nothing accepts connections there. When it starts it reads the certificates on disk'
    return { tone: 'warn', title: 'sshd is down', detail }
  }
  if (readiness?.reason === 'evidence-old') {
    const detail =
      'What lies on disk is good, and was served when sshd was last seen, half an hour ago or longer'
    return { tone: 'warn', title: 'sshd could not be asked', detail }
  }
  if (readiness?.reason === 'clock-skew') {
    const skew = Math.round(Math.abs(status.issuer.clock_skew_seconds ?? 0))
    const detail = `It differs from the issuer’s by ${count(skew, 'second')}. Look at \`timedatectl\``
    return { tone: 'warn', title: 'The clock is off', detail }
  }
  const due = certificates.filter(({ state }) => state === 'due').length
  if (readiness?.status === 'warn') {
    const detail = 'The certificates still hold, and renewal is tried again by itself'
    return { tone: 'warn', title: 'Renewal fails', detail }
  }
  if (due > 0) {
    const title = due === 1 ? 'A renewal is due' : `${due} renewals are due`
    return { tone: 'busy', title, detail: 'The certificates hold, and are renewed without anybody’s doing' }
  }
  const valid = certificates.filter(({ state }) => state === 'valid')
  const [next] = valid
    .flatMap(({ renewal_due }) => renewal_due ?? [])
    .sort((a, b) => parseTime(a) - parseTime(b))
  const then = next === undefined ? '' : `; next renewal ${day(next)}, ${minute(next)} UTC`
  return { tone: 'good', title: 'All well', detail: `${count(valid.length, 'certificate')} valid${then}` }
}
