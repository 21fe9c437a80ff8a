import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { bundledPackages } from './components.ts'

/**
 * `node packaging/notices.ts`: licences and notices of all that is in the bundle, on standard output. Run at the top
 * of the checkout, after the build.
 */

const LICENCE_FILE = /^(?:licen[cs]e|copying|notice)/i
const RULE = '-'.repeat(80)

const sections = bundledPackages().map(({ name, version, license, folder }) => {
  const texts = readdirSync(folder)
    .filter((file) => LICENCE_FILE.test(file))
    .sort()
    .map((file) => readFileSync(join(folder, file), 'utf8').trim())
  const body =
    texts.length === 0 ? `The package has no text of its own; its licence is ${license}.` : texts.join('\n\n')
  return `${RULE}\n${name} ${version} (${license})\n${RULE}\n\n${body}\n`
})
process.stdout.write(`/usr/lib/hostcertd/*.js contain these packages.\n\n${sections.join('\n')}`)
