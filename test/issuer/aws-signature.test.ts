import aws4 from 'aws4'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { signRequest } from '../../agent/issuer/logins/aws-signature.ts'
import { askAws, type AwsKey } from '../support/platform/aws.ts'

/** Of AWS's published test suite for Signature Version 4. */
const KEYS = {
  accessKeyId: 'AKIDEXAMPLE',
  secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY',
  sessionToken: null,
}
const TIMESTAMP = '20150830T123600Z'
const BASE = { host: 'example.amazonaws.com', 'x-amz-date': TIMESTAMP }
/** Of the vector post-sts-header-before. */
const SESSION =
  'AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=='

describe("AWS's test vectors", () => {
  test.each([
    {
      name: 'get-vanilla',
      request: { method: 'GET', headers: BASE, body: '' },
      signature: '5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31',
    },
    {
      name: 'post-vanilla',
      request: { method: 'POST', headers: BASE, body: '' },
      signature: '5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b',
    },
    {
      name: 'get-header-value-trim',
      request: {
        method: 'GET',
        headers: { ...BASE, 'my-header1': ' value1', 'my-header2': ' "a   b   c"' },
        body: '',
      },
      signature: 'acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736',
    },
    {
      name: 'post-header-key-sort',
      request: { method: 'POST', headers: { ...BASE, 'my-header1': 'value1' }, body: '' },
      signature: 'c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c',
    },
    {
      name: 'post-x-www-form-urlencoded',
      request: {
        method: 'POST',
        headers: { ...BASE, 'content-type': 'application/x-www-form-urlencoded' },
        body: 'Param1=value1',
      },
      signature: 'ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a',
    },
    {
      name: 'post-sts-header-before',
      request: { method: 'POST', headers: { ...BASE, 'x-amz-security-token': SESSION }, body: '' },
      signature: '85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead',
    },
  ])('$name', ({ request, signature }) => {
    const scope = { region: 'us-east-1', service: 'service', timestamp: TIMESTAMP }
    expect(signRequest({ ...request, path: '/' }, scope, KEYS).signature).toBe(signature)
  })
})

const BODY = 'Action=GetCallerIdentity&Version=2011-06-15'
/** Seconds since the epoch, from 2001 to 2100. */
const times = fc.integer({ min: 1_000_000_000, max: 4_102_444_800 })
const keys = fc.record({
  accessKeyId: fc.stringMatching(/^A[A-Z0-9]{15,20}$/),
  secretAccessKey: fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: 64 }),
  sessionToken: fc.option(fc.stringMatching(/^[\w+/]{1,300}={0,2}$/)),
})
const regions = fc.constantFrom('us-east-1', 'eu-central-1', 'us-gov-west-1', 'cn-north-1', 'ap-southeast-7')

function signed(key: AwsKey, region: string, time: number, body: string) {
  const timestamp = new Date(time * 1000).toISOString().replaceAll(/[-:]|\.\d+/g, '')
  const headers = {
    'content-length': String(Buffer.byteLength(body)),
    'content-type': 'application/x-www-form-urlencoded; charset=utf-8',
    host: `sts.${region}.amazonaws.com${region.startsWith('cn-') ? '.cn' : ''}`,
    'x-amz-date': timestamp,
    ...(key.sessionToken === null ? {} : { 'x-amz-security-token': key.sessionToken }),
  }
  const request = { method: 'POST', path: '/', headers, body }
  return {
    request,
    authorization: signRequest(request, { region, service: 'sts', timestamp }, key).authorization,
  }
}

test('any request is signed as the library aws4 signs it', () => {
  fc.assert(
    fc.property(keys, regions, times, fc.string(), (key, region, time, body) => {
      const ours = signed(key, region, time, body)
      const { accessKeyId, secretAccessKey, sessionToken } = key
      const theirs = aws4.sign(
        { ...ours.request, service: 'sts', region, headers: { ...ours.request.headers } },
        { accessKeyId, secretAccessKey, ...(sessionToken === null ? {} : { sessionToken }) },
      )
      expect(theirs.headers?.['Authorization']).toBe(ours.authorization)
    }),
  )
})

describe('the AWS of these tests', () => {
  const NOW = Date.UTC(2026, 10, 27, 6) / 1000
  const temporary: AwsKey = { ...KEYS, sessionToken: 'a/session+token==' }
  const login = (headers: Readonly<Record<string, string>>, body: string) => ({
    iamHttpRequestMethod: 'POST',
    iamRequestBody: Buffer.from(body).toString('base64'),
    iamRequestHeaders: Buffer.from(JSON.stringify(headers)).toString('base64'),
  })
  const ask = (headers: Readonly<Record<string, string>>, body = BODY, at = NOW, key = temporary) =>
    askAws({ body: login(headers, body), at: at * 1000 }, [key])
  const good = (key = temporary, region = 'eu-central-1', body = BODY) => {
    const { request, authorization } = signed(key, region, NOW, body)
    return { ...request.headers, Authorization: authorization }
  }

  test('accepts what aws4 signs, whatever the key and the region', () => {
    fc.assert(
      fc.property(keys, regions, times, (key, region, time) => {
        const { request, authorization } = signed(key, region, time, BODY)
        const headers = { ...request.headers, Authorization: authorization }
        expect(ask(headers, BODY, time, key)).toEqual({ region, refusal: null })
      }),
    )
  })

  /** Signs without these headers, which are sent all the same. */
  const unsigned = (...names: string[]) => {
    const { request } = signed(temporary, 'eu-central-1', NOW, BODY)
    const headers = Object.fromEntries(
      Object.entries(request.headers).filter(([name]) => !names.includes(name)),
    )
    const scope = { region: 'eu-central-1', service: 'sts', timestamp: request.headers['x-amz-date'] }
    const { authorization } = signRequest({ ...request, headers }, scope, temporary)
    return { ...request.headers, Authorization: authorization }
  }
  const change = (part: RegExp, by: string) => {
    const headers = good()
    return { ...headers, Authorization: headers.Authorization.replace(part, by) }
  }

  test.each([
    {
      what: 'no signature',
      ask: () => ask({ ...good(), Authorization: '' }),
      refusal: 'IncompleteSignature',
    },
    ...['x-amz-security-token', 'content-length', 'content-type', 'host', 'x-amz-date'].map((name) => ({
      what: `${name} that is not signed`,
      ask: () => ask(unsigned(name)),
      refusal: 'SignatureDoesNotMatch: not all is signed',
    })),
    {
      what: 'another session token',
      ask: () => ask({ ...good(), 'x-amz-security-token': 'another' }),
      refusal: 'InvalidClientTokenId: session token',
    },
    {
      what: 'no session token',
      ask: () => ask(good({ ...temporary, sessionToken: null })),
      refusal: 'InvalidClientTokenId: session token',
    },
    {
      what: 'a session token with a key that lasts',
      ask: () => ask(good(), BODY, NOW, KEYS),
      refusal: 'InvalidClientTokenId: session token',
    },
    {
      what: 'an unknown key',
      ask: () => ask(change(/AKIDEXAMPLE/, 'AKIDOTHER')),
      refusal: 'InvalidClientTokenId',
    },
    {
      what: 'another secret',
      ask: () => ask(good({ ...temporary, secretAccessKey: 'another' })),
      refusal: 'SignatureDoesNotMatch',
    },
    {
      what: 'another body of the same length',
      ask: () => ask(good(), BODY.replace('2011', '2012')),
      refusal: 'SignatureDoesNotMatch',
    },
    { what: 'another length', ask: () => ask(good(), `${BODY}&`), refusal: 'another host or length' },
    {
      what: 'another host',
      ask: () => ask({ ...good(), host: 'sts.us-east-1.amazonaws.com' }),
      refusal: 'another host or length',
    },
    {
      what: 'another action, signed',
      ask: () => ask(good(temporary, 'eu-central-1', 'Action=GetSessionToken'), 'Action=GetSessionToken'),
      refusal: 'InvalidAction',
    },
    {
      what: 'another content type',
      ask: () => ask({ ...good(), 'content-type': 'text/plain' }),
      refusal: 'SignatureDoesNotMatch',
    },
    {
      what: 'the scope of another region',
      ask: () => ask(change(/eu-central-1/, 'eu-west-1')),
      refusal: 'another host or length',
    },
    {
      what: 'the scope of another service',
      ask: () => ask(change(/\/sts\//, '/iam/')),
      refusal: 'SignatureDoesNotMatch: scope',
    },
    {
      what: 'the scope of another day',
      ask: () => ask(change(/20261127/, '20261126')),
      refusal: 'SignatureDoesNotMatch: expired',
    },
    {
      what: 'a quarter of an hour and a second ago',
      ask: () => ask(good(), BODY, NOW + 901),
      refusal: 'SignatureDoesNotMatch: expired',
    },
    {
      what: 'in a quarter of an hour and a second',
      ask: () => ask(good(), BODY, NOW - 901),
      refusal: 'SignatureDoesNotMatch: expired',
    },
    { what: 'a quarter of an hour ago', ask: () => ask(good(), BODY, NOW + 900), refusal: null },
  ])('$what: $refusal', ({ ask: answer, refusal }) => {
    expect(answer().refusal).toBe(refusal)
  })
})
