import { isDeepStrictEqual } from 'node:util'
import { type Document, isMap, parseDocument } from 'yaml'

/** A value of the configuration, by the names of the file; null takes the key out. */
type Setting = string | readonly string[] | boolean | null

/** What `enroll` sets, `['issuer', 'url']` each; what is not named stays as it is. */
export type Settings = readonly (readonly [path: readonly [string, ...string[]], setting: Setting])[]

const HEAD = 'Written by `hostcertd enroll`; `man hostcertd.yaml` explains every setting.'

/**
 * The configuration file with settings changed. Comments, order and everything else stay, and a text that has all of
 * them already stays as it is, byte for byte.
 *
 * @param text of the file, valid YAML; null when there is none
 */
export function withSettings(text: string | null, settings: Settings): string {
  const document = parseDocument(text ?? '', { schema: 'core', version: '1.2' })
  const wanted = settings.filter(([path, setting]) => !isSet(document, path, setting))
  if (text !== null && wanted.length === 0) return text
  if (document.contents === null)
    document.contents = document.createNode({}) as unknown as typeof document.contents
  for (const [path, setting] of wanted) {
    if (setting === null) document.deleteIn(path)
    else document.setIn(path, document.createNode(setting))
  }
  removeEmptySections(document)
  if (text === null || text.trim() === '') document.commentBefore = ` ${HEAD}`
  return document.toString({ lineWidth: 0, flowCollectionPadding: false })
}

function isSet(document: Document, path: readonly string[], setting: Setting): boolean {
  const node: unknown = document.getIn(path)
  const there: unknown =
    isMap(node) || typeof node !== 'object' ? node : (node as { toJSON(): unknown } | null)?.toJSON()
  return setting === null ? !document.hasIn(path) : isDeepStrictEqual(there, setting)
}

/** `auth: {}` is what is left when the last setting of a section goes. */
function removeEmptySections({ contents }: Document): void {
  if (isMap(contents))
    contents.items = contents.items.filter(({ value }) => !isMap(value) || value.items.length > 0)
}
