import { createHash } from 'node:crypto'
import { formatTime } from '../../cert/time.ts'
import { SCRIPT, STYLE } from './assets.ts'
import { certificatesSection } from './certificates.ts'
import { Html, html, prose, type PageView, second, sign, tabIcon } from './html.ts'
import { eventsSection, issuerSection, sshdSection } from './sections.ts'
import { problemsSection, verdictOf } from './verdict.ts'

/** The page may run its own script, use its own styles, and ask its own server; nothing else. CSP Level 3. */
const POLICY = [
  "default-src 'none'",
  `script-src '${hashOf(SCRIPT)}'`,
  `style-src '${hashOf(STYLE)}'`,
  "connect-src 'self'",
  'img-src data:',
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ')

/** Not in the template: the policy names their hashes, so no formatter may touch them. */
const STYLE_TAG = new Html(`<style>${STYLE}</style>`)
const SCRIPT_TAG = new Html(`<script>${SCRIPT}</script>`)

export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy': POLICY,
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
}

/** The status page: one document with all that it needs, complete without its script. Links are relative, for proxies. */
export function renderPage(view: PageView): string {
  const verdict = verdictOf(view)
  const at = formatTime(view.now) ?? ''
  return `<!doctype html>\n${
    html`<html lang="en" data-version="${view.version}">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="robots" content="noindex" />
        <title>${verdict.title} · ${view.hostName} · hostcertd</title>
        <link rel="icon" href="${tabIcon(verdict.tone)}" />
        ${STYLE_TAG}
      </head>
      <body>
        <header class="page-header">
          <div>
            <p class="brand">hostcertd</p>
            <h1>${view.hostName}</h1>
          </div>
          <p id="as-of" data-live>as of <time datetime="${at}">${second(at)} UTC</time></p>
        </header>
        <main>
          <div id="stale" role="alert" hidden></div>
          <div id="verdict" role="status" class="verdict tone-${verdict.tone}" data-live>
            ${sign(verdict.tone)}
            <p><strong>${verdict.title}</strong>${prose(verdict.detail)}.</p>
          </div>
          ${section('problems', problemsSection(view))} ${section('certificates', certificatesSection(view))}
          ${section('sshd', sshdSection(view))} ${section('issuer', issuerSection(view))}
          ${section('events', eventsSection(view))}
        </main>
        <footer>
          <p>hostcertd ${view.version}</p>
          <p>All times are UTC. <span id="pace">Reload the page to update it.</span></p>
          <p>
            For machines: <a href="status">status</a>, <a href="readyz">readiness</a>,
            <a href="metrics">metrics</a>
          </p>
        </footer>
        ${SCRIPT_TAG}
      </body>
    </html>`.text
  }\n`
}

/** A part that the script keeps up to date; it exists, empty, when there is nothing to show. */
function section(id: string, content: Html | null): Html {
  if (content === null) return html`<div id="${id}" data-live></div>`
  return html`<div id="${id}" data-live><section aria-labelledby="${id}-title">${content}</section></div>`
}

function hashOf(text: string): string {
  return `sha256-${createHash('sha256').update(text).digest('base64')}`
}
