import type { IssuerFailure } from '../../../renewal/ports.ts'

export type TokenAnswer =
  | { readonly kind: 'token'; readonly token: string }
  | { readonly kind: 'failed'; readonly failure: IssuerFailure }

/** The way to an access token. One for each `auth.method`. */
export interface Authenticator {
  /**
   * An access token to use now. Kept in memory at most.
   *
   * @param refused the token that the issuer has just refused, null otherwise: then another one is fetched, once.
   *   The same one again means that there is no other
   * @returns `failed` with what to do next. Rejects only when `signal` fires
   */
  token(refused: string | null, signal: AbortSignal): Promise<TokenAnswer>
}
