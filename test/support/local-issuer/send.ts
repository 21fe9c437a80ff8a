import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import type { RawAnswer } from './error-rows.ts'
import type { Fault } from './faults.ts'

/** One exchange, with what its fault may need. */
export interface Exchange {
  readonly response: ServerResponse
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** Do the work and get the true answer. Once at most. */
  readonly answer: () => Promise<RawAnswer>
  /** Fires when the client is gone or the issuer stops. */
  readonly signal: AbortSignal
}

/** Answer a request, with its fault if it has one. Returns when all is sent or given up. */
export async function send(exchange: Exchange, fault: Fault | null): Promise<void> {
  const { response, signal } = exchange
  if (fault === null) return deliver(exchange, await exchange.answer())
  switch (fault.kind) {
    case undefined:
      return deliver(exchange, fault)
    case 'hang':
      if (fault.done === true) await exchange.answer()
      return
    case 'reset':
      if (fault.done === true) await exchange.answer()
      return cut(response)
    case 'half-body':
      return await deliverHalf(exchange, await exchange.answer())
    case 'slow':
      await sleep(fault.milliseconds, undefined, { signal })
      return deliver(exchange, await exchange.answer())
    case 'html':
      return deliver(exchange, {
        status: fault.status ?? 502,
        headers: { 'content-type': 'text/html' },
        body: '<html><head><title>Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>\n',
      })
    case 'redirect':
      return deliver(exchange, { status: fault.status ?? 302, headers: { location: fault.location } })
    case 'huge':
      return await deliverWithoutEnd(exchange)
    case 'tamper':
      return deliver(exchange, await tampered(await exchange.answer(), fault.edit))
    case 'skew':
      return deliver(exchange, await exchange.answer(), httpDate(exchange.now() + fault.seconds * 1000))
    case 'date':
      return deliver(exchange, await exchange.answer(), fault.value)
    case 'pause':
      await Promise.race([fault.until, once(signal, 'abort')])
      return deliver(exchange, await exchange.answer())
  }
}

function deliver(
  exchange: Exchange,
  answer: RawAnswer,
  date: string | null = httpDate(exchange.now()),
): void {
  const { response } = exchange
  const text = writeHead(response, answer, date)
  response.end(text)
}

async function deliverHalf({ response, now }: Exchange, answer: RawAnswer): Promise<void> {
  const text = writeHead(response, answer, httpDate(now()))
  const half = text.slice(0, Math.ceil(text.length / 2))
  await new Promise((written) => response.write(half, written))
  cut(response)
}

async function deliverWithoutEnd({ response, now, signal }: Exchange): Promise<void> {
  response.writeHead(200, { 'content-type': 'application/json', date: httpDate(now()) })
  response.write('{"serialNumber":"1","signedKey":"')
  const chunk = 'A'.repeat(65_536)
  while (!signal.aborted) if (!response.write(chunk)) await once(response, 'drain', { signal })
}

/** @returns the body, not yet written */
function writeHead(response: ServerResponse, answer: RawAnswer, date: string | null): string {
  const { status, body = '', headers = {} } = answer
  const isText = typeof body === 'string'
  const text = isText ? body : JSON.stringify(body)
  response.sendDate = false
  response.writeHead(status, {
    'content-type': isText ? 'text/plain; charset=utf-8' : 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(text),
    ...(date === null ? {} : { date }),
    ...headers,
  })
  return text
}

async function tampered(
  answer: RawAnswer,
  edit: (signedKey: string) => string | Promise<string>,
): Promise<RawAnswer> {
  const { body } = answer
  if (typeof body !== 'object' || !('signedKey' in body)) return answer
  return { ...answer, body: { ...body, signedKey: await edit(String(body.signedKey)) } }
}

/** End the connection without a goodbye: a TCP reset, where the socket is a plain one. */
function cut(response: ServerResponse): void {
  const { socket } = response
  if (socket === null) return
  if ('encrypted' in socket) socket.destroy()
  else socket.resetAndDestroy()
}

function httpDate(milliseconds: number): string {
  return new Date(milliseconds).toUTCString()
}
