import { isLoopback } from './addresses.ts'
import { mustBe, mustBeUnquoted, value, type Reading } from './reading.ts'

/**
 * The issuer's base URL: https, or http where nothing leaves this host, for a token goes over it.
 *
 * @returns as a URL parser writes it, without slashes at the end; it may have a path
 */
export function readIssuerUrl(text: string): Reading<string> {
  // A URL parser mends missing slashes, backslashes and white space; here they are more likely a slip.
  if (!/^https?:\/\/[^/\\\s][^\\\s]*$/i.test(text) || !URL.canParse(text))
    return mustBe('a URL such as https://us.infisical.com', text)
  const url = new URL(text)
  // Not quoted: it has a password in it.
  if (url.username !== '' || url.password !== '' || /^https?:\/\/[^/?#]*@/i.test(text))
    return mustBeUnquoted('a URL without a user name or password')
  if (/[?#]/.test(text)) return mustBe('a URL without a query (?) or fragment (#)', text)
  if (url.protocol === 'http:' && !isLoopback(url.hostname.replace(/^\[|\]$/g, '')))
    return mustBe('https:// (http:// is for 127.0.0.1, [::1] and localhost only)', text)
  return value(`${url.origin}${url.pathname}`.replace(/\/+$/, ''))
}
