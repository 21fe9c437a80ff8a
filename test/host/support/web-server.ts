import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { mkdir, readFile, stat } from 'node:fs/promises'
import { createServer } from 'node:https'
import { join, normalize } from 'node:path'
import { argv, env, execPath, stdin, stdout } from 'node:process'
import { fileURLToPath } from 'node:url'
import type { Host } from './host.ts'
import { outside } from './network.ts'

const PROGRAM = fileURLToPath(import.meta.url)
const CERTIFICATE = '/usr/local/share/ca-certificates/web-server.crt'
const KEY = '/root/web-server.key'

/**
 * Serve a folder over HTTPS outside a host, which resolves the name and trusts the certificate. It ends by itself when this
 * process does, for then its stdin closes.
 *
 * @param host with openssl and ca-certificates
 */
export async function startWebServer(
  { container, network }: Host,
  name: string,
  folder: string,
): Promise<AsyncDisposable> {
  await mkdir(join(container.root, CERTIFICATE, '..'), { recursive: true })
  await container.sh(`
    echo '${network.outsideAddress} ${name}' >>/etc/hosts
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 2 \
      -subj '/CN=${name}' -addext 'subjectAltName=DNS:${name}' -keyout ${KEY} -out ${CERTIFICATE} 2>&1
    update-ca-certificates`)
  const [certificate, key] = [CERTIFICATE, KEY].map((path) => join(container.root, path))
  const [enter = '', ...words] = outside(network)
  const program = [execPath, PROGRAM, network.outsideAddress, folder, `${certificate}`, `${key}`]
  const child = spawn(enter, [...words, ...program], { env, stdio: ['pipe', 'pipe', 'inherit'] })
  await once(child.stdout, 'data')
  const stop = async (): Promise<void> => {
    if (child.exitCode !== null) return
    const ended = once(child, 'exit')
    child.stdin.end()
    await ended
  }
  return { [Symbol.asyncDispose]: stop }
}

/** `web-server.ts ADDRESS FOLDER CERTIFICATE KEY`: what runs in the network namespace. */
async function serve([address = '', folder = '', certificate = '', key = '']: readonly string[]) {
  const tls = { cert: await readFile(certificate), key: await readFile(key) }
  const server = createServer(tls, (request, response) => {
    const path = join(
      folder,
      normalize(decodeURIComponent(new URL(request.url ?? '/', 'https://host').pathname)),
    )
    stat(path).then(
      ({ size }) => {
        response.writeHead(200, { 'content-length': size })
        createReadStream(path).pipe(response)
      },
      () => response.writeHead(404).end(),
    )
  })
  server.listen(443, address, () => stdout.write('ready\n'))
  stdin.on('end', () => process.exit()).resume()
}

if (argv[1] === PROGRAM) await serve(argv.slice(2))
