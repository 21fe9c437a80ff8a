import { execFileSync } from 'node:child_process'
import { defineConfig } from 'rolldown'

/** The commit that is built; a tarball has none. */
function commit(): string {
  try {
    return execFileSync('git', ['rev-parse', '--short=12', 'HEAD'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim()
  } catch {
    return ''
  }
}

/**
 * CommonJS: as ES modules the loader alone costs 15 MiB. What only the exchange with the issuer needs, HTTP and TLS
 * with it, is in files of its own, and so is `doctor`: the daemon never loads them. Names are kept, for stack traces.
 */
export default defineConfig({
  input: { hostcertd: 'agent/main.ts' },
  platform: 'node',
  logLevel: 'warn',
  transform: { target: 'node22', define: { HOSTCERTD_COMMIT: JSON.stringify(commit()) } },
  output: {
    dir: 'dist',
    format: 'cjs',
    minify: { compress: true, mangle: false, codegen: true },
    // With a hash: while a package is being replaced, each file finds those that it was built with.
    chunkFileNames: '[name]-[hash].js',
    sourcemap: true,
  },
  plugins: [
    {
      // The checkout's package.json says that what lies below it are ES modules.
      name: 'commonjs',
      generateBundle() {
        this.emitFile({ type: 'asset', fileName: 'package.json', source: '{ "type": "commonjs" }\n' })
      },
    },
  ],
})
