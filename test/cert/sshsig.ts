import { createHash } from 'node:crypto'
import { sshString } from './craft.ts'

/**
 * A signature file of OpenSSH's own tests, as PROTOCOL.sshsig has it.
 *
 * @returns the signature, and what it is over: `This is a test, this is only a test` in the namespace `unittest`
 */
export function readSshsig(text: string): { readonly signature: Buffer; readonly signed: Buffer } {
  const armoured = Buffer.from(text.replaceAll(/-----.*-----|\n/g, ''), 'base64')
  const message = createHash('sha512').update('This is a test, this is only a test').digest()
  const signed = Buffer.concat([
    Buffer.from('SSHSIG'),
    sshString('unittest'),
    sshString(''),
    sshString('sha512'),
    sshString(message),
  ])
  // The signature is the last string.
  const before = armoured.indexOf(sshString('sha512')) + sshString('sha512').length
  return { signature: armoured.subarray(before + 4), signed }
}
