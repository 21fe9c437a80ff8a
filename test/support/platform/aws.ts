import { createHash, createHmac } from 'node:crypto'
import { type LoginRequest, LoginRefusal, type Verify } from './login-server.ts'
import type { Machine } from './metadata.ts'

/**
 * `aws-auth`: forwards the request to AWS, which recomputes the signature from what arrived. 500 when AWS refuses it, 400
 * for a region that it cannot be sent to, 401 for an account that the identity does not allow.
 */
export function awsLogin(machine: Machine, rules: { allowed: boolean }): Verify {
  return ({ body, at }: LoginRequest) => {
    const text = (name: string): string => Buffer.from(String(body[name]), 'base64').toString('utf8')
    if (body['iamHttpRequestMethod'] !== 'POST') throw new LoginRefusal(422, 'ValidationFailure', 'method')
    const headers = new Map(
      Object.entries(JSON.parse(text('iamRequestHeaders')) as Record<string, string>).map(([name, value]) => [
        name.toLowerCase(),
        value,
      ]),
    )
    const match =
      /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/sts\/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$/.exec(
        headers.get('authorization') ?? '',
      )
    const [, id = '', day = '', region = '', names = '', signature = ''] = match ?? []
    if (!/^[a-z]{2}(?:-[a-z]+)+-\d$/.test(region))
      throw new LoginRefusal(400, 'BadRequest', 'Invalid AWS region')
    const domain = region.startsWith('cn-') ? 'amazonaws.com.cn' : 'amazonaws.com'
    const canonical = [
      'POST',
      '/',
      '',
      ...names.split(';').map((name) => `${name}:${headers.get(name) ?? ''}`),
      '',
      names,
      createHash('sha256').update(text('iamRequestBody')).digest('hex'),
    ].join('\n')
    const stamp = headers.get('x-amz-date') ?? ''
    const scope = `${day}/${region}/sts/aws4_request`
    const toSign = `AWS4-HMAC-SHA256\n${stamp}\n${scope}\n${createHash('sha256').update(canonical).digest('hex')}`
    const hmac = (key: string | Buffer, value: string): Buffer =>
      createHmac('sha256', key).update(value).digest()
    const { keys } = machine
    const key = hmac(hmac(hmac(hmac(`AWS4${keys.secretAccessKey}`, day), region), 'sts'), 'aws4_request')
    const time = Date.parse(stamp.replace(/^(....)(..)(..T..)(..)(..Z)$/, '$1-$2-$3:$4:$5'))
    const isGood =
      id === keys.accessKeyId &&
      hmac(key, toSign).toString('hex') === signature &&
      ['content-length', 'content-type', 'host', 'x-amz-date'].every((name) =>
        names.split(';').includes(name),
      ) &&
      headers.get('host') === `sts.${region}.${domain}` &&
      headers.get('content-length') === String(text('iamRequestBody').length) &&
      text('iamRequestBody') === 'Action=GetCallerIdentity&Version=2011-06-15' &&
      (headers.get('x-amz-security-token') ?? '') === keys.sessionToken &&
      stamp.startsWith(day) &&
      Math.abs(time - at) <= 15 * 60_000
    if (!isGood) throw new LoginRefusal(500, 'InternalServerError', 'Something went wrong')
    if (!rules.allowed)
      throw new LoginRefusal(401, 'UnauthorizedError', 'Access denied: AWS account ID not allowed.')
  }
}
