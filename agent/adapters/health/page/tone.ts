import type { CertificateState } from '../../../core/certificate-state.ts'
import type { CertificateStatus } from '../../../core/status-document.ts'
import { html, type Html } from './html.ts'

/**
 * How things stand, as colour and sign; words always say it too.
 *
 * - `good`: as it should be
 * - `busy`: work is going on, nobody need do anything
 * - `warn`: somebody should look
 * - `bad`: clients are, or soon will be, in trouble
 * - `idle`: nothing to judge
 */
export type Tone = 'good' | 'busy' | 'warn' | 'bad' | 'idle'

const TONES: Readonly<Record<CertificateState, Tone>> = {
  ignored: 'idle',
  absent: 'bad',
  expired: 'bad',
  invalid: 'bad',
  overdue: 'warn',
  unconfirmed: 'warn',
  due: 'busy',
  valid: 'good',
}

/** Of a host key: by its state, and worse where clients are shown no certificate at all. */
export function toneOf(certificate: CertificateStatus): Tone {
  return isBare(certificate) ? 'bad' : TONES[certificate.state]
}

/** A good certificate on disk, and sshd was seen to present none: clients are asked about the host key now. */
export function isBare({ state, served }: CertificateStatus): boolean {
  return (
    (state === 'unconfirmed' || state === 'overdue') && served?.matches === false && served.serial === null
  )
}

const STROKES: Readonly<Record<Tone, string>> = {
  good: 'M5 10.5l3.2 3.2L15 7',
  busy: 'M10 5.5V10l3 2',
  warn: 'M10 5.5v5.5M10 14v.4',
  bad: 'M6.5 6.5l7 7M13.5 6.5l-7 7',
  idle: 'M6 10h8',
}

/** A sign for the eye only. */
export function sign(tone: Tone): Html {
  return html`<svg class="sign" viewBox="0 0 20 20" aria-hidden="true" focusable="false">
    <circle cx="10" cy="10" r="9.5" />
    <path d="${STROKES[tone]}" />
  </svg>`
}

const ICON_COLOURS: Readonly<Record<Tone, string>> = {
  good: '2f8f5b',
  busy: '3572b0',
  warn: 'b7791f',
  bad: 'c0392b',
  idle: '75808c',
}

/** The icon of the tab, as a data URL: nothing is fetched. */
export function tabIcon(tone: Tone): string {
  const shape = `<circle cx='10' cy='10' r='10' fill='#${ICON_COLOURS[tone]}'/>`
  const stroke = `<path d='${STROKES[tone]}' fill='none' stroke='white' stroke-width='2' stroke-linecap='round'/>`
  const image = `<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 20 20'>${shape}${stroke}</svg>`
  return `data:image/svg+xml,${encodeURIComponent(image)}`
}
