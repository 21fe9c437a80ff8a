import type { CertificateStatus } from '../../../core/status-document.ts'
import type { UnixSeconds } from '../../../core/time.ts'
import { html, type Html } from './html.ts'
import { lifetime } from './lifetime.ts'
import { sign, toneOf } from './tone.ts'
import type { PageView } from './view.ts'
import { moment } from './words.ts'

/** A card for each host key. */
export function certificatesSection({ status, now }: PageView): Html | null {
  if (status === null || !status.enrolled) return null
  const { certificates } = status
  return html`<h2 id="certificates-title">Certificates</h2>
    ${
      certificates.length === 0
        ? html`<p class="card quiet">No host keys were found where <code>host_keys</code> says.</p>`
        : html`<div class="cards">${certificates.map((certificate) => card(certificate, now))}</div>`
    }`
}

function card(certificate: CertificateStatus, now: UnixSeconds): Html {
  const { host_key, key_type, state } = certificate
  const tone = toneOf(certificate)
  return html`<article class="card certificate">
    <header>
      <h3 class="name">${host_key}</h3>
      <p class="pill tone-${tone}">${sign(tone)}${state}</p>
      <p class="quiet">${key_type ?? 'of unknown type'}</p>
    </header>
    ${state === 'ignored' ? html`<p>Ignored: ${certificate.reason ?? 'no reason known'}.</p>` : whyNot(certificate)}
    ${state === 'ignored' && certificate.serial === null ? null : html`${lifetime(certificate, now)}${facts(certificate)}`}
  </article>`
}

function whyNot({ serial, last_attempt }: CertificateStatus): Html | null {
  if (serial !== null) return null
  const tried = last_attempt === null ? null : html` Last tried at ${moment(last_attempt)} UTC.`
  return html`<p>There is no certificate for this host key.${tried}</p>`
}

/** What a person asks for first; the rest behind a word, for there are several host keys. */
function facts(certificate: CertificateStatus): Html {
  const { host_key, serial, principals, key_id, ca_fingerprint, last_success } = certificate
  const first = [
    principals.length === 0 ? null : fact('Good for', html`${principals.join(', ')}`),
    last_success === null ? null : fact('Last renewed', moment(last_success)),
    serial === null ? null : fact('Serial', named(serial)),
  ].filter((row) => row !== null)
  const more = [
    key_id === null ? null : fact('Key id', named(key_id)),
    ca_fingerprint === null ? null : fact('CA', named(ca_fingerprint)),
    fact('File', named(certificate.certificate)),
  ].filter((row) => row !== null)
  return html`${first.length === 0 ? null : html`<dl class="facts">${first}</dl>`}
    <details class="more" id="more-${host_key}">
      <summary id="more-of-${host_key}">More<span class="unseen"> about ${host_key}</span></summary>
      <dl class="facts">${more}</dl>
    </details>`
}

function named(text: string): Html {
  return html`<span class="name">${text}</span>`
}

function fact(name: string, value: Html): Html {
  return html`<div>
    <dt>${name}</dt>
    <dd>${value}</dd>
  </div>`
}
