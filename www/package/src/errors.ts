/**
 * The reasons for which this package gives up.
 *
 * | code | means |
 * |---|---|
 * | `network` | a server was not reached or failed; trying again may help |
 * | `not_found` | a file or a repository is not there |
 * | `integrity` | bytes differ from the hash or the length promised for them; files are of two versions of the package |
 * | `format` | a model, its configuration or the wasm file is malformed |
 * | `unsupported` | this browser, build or model can't do it |
 * | `out_of_memory` | the model or a picture does not fit |
 * | `device_lost` | the GPU or the engine stopped |
 * | `image` | a picture can't be decoded or its pixels can't be read |
 * | `option` | an argument has a value that makes no sense |
 * | `disposed` | the classifier was used after `dispose()` |
 */
export type AimErrorCode = (typeof CODES)[number];

const CODES = [
  'network',
  'not_found',
  'integrity',
  'format',
  'unsupported',
  'out_of_memory',
  'device_lost',
  'image',
  'option',
  'disposed',
] as const;

/** The one error class of this package. An aborted call rejects with the signal's own reason. */
export class AimError extends Error {
  override readonly name = 'AimError';
  /** Why, for a program. */
  readonly code: AimErrorCode;

  constructor(code: AimErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
    // Until it is read V8 keeps what each call of the stack was made on: an error that is kept would keep classifiers.
    void this.stack;
  }
}

/** What an abort without a reason of its own rejects with. */
export function abortError(): DOMException {
  return new DOMException('The operation was aborted.', 'AbortError');
}

/** The reason of an aborted signal, never undefined. */
export function abortReason(signal: Pick<AbortSignal, 'reason'>): unknown {
  return signal.reason ?? abortError();
}

/** Throws the reason of a signal that has fired. */
export function throwIfAborted(signal: Pick<AbortSignal, 'aborted' | 'reason'> | undefined): void {
  if (signal?.aborted) throw abortReason(signal);
}

/** What a request meets once its classifier is gone. */
export function disposed(): AimError {
  return new AimError('disposed', 'this classifier was disposed of: make a new one by AimClassifier.fromPretrained()');
}

/** A part of the package that is fetched when it is first used. The `import()` stands where it is used: bundlers look for it. */
export function lazy<T>(part: Promise<T>): Promise<T> {
  return part.catch((cause: unknown) => {
    throw new AimError('network', `a part of the package could not be loaded: ${messageOf(cause)}. Try again`, { cause });
  });
}

/** Calls a function of the caller's, whose defects are reported and cost nothing else. */
export function notify<T>(listener: ((event: T) => void) | undefined, event: T): void {
  try {
    listener?.(event);
  } catch (error) {
    (globalThis.reportError ?? console.error)(error);
  }
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  if (error instanceof Error) return error.message;
  if (typeof error === 'object' && error !== null && 'message' in error) return String(error.message);
  return String(error);
}

/** The name of anything that was thrown: `AbortError`, `SecurityError`. */
export function nameOf(error: unknown): string {
  return typeof error === 'object' && error !== null && 'name' in error ? String(error.name) : '';
}

/** The code of an error of the wasm module, which makes plain `Error`s with the right fields. */
export function codeOf(error: unknown): AimErrorCode | 'aborted' | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  const { code } = error;
  return code === 'aborted' || CODES.includes(code as AimErrorCode) ? (code as AimErrorCode) : undefined;
}

/** True for a trap, or a stack that ran over: the wasm instance behind it can't be trusted any more. */
export function isTrap(error: unknown): boolean {
  return error instanceof WebAssembly.RuntimeError || /call stack|too much recursion/i.test(messageOf(error));
}

/** Makes an `AimError` of whatever was thrown; an abort stays what it is. */
export function toError(error: unknown, otherwise: AimErrorCode): Error {
  if (error instanceof AimError) return error;
  const code = codeOf(error);
  if (code === 'aborted') return abortError();
  if (nameOf(error) === 'AbortError') return error as Error;
  const cause = error instanceof Error && 'cause' in error ? (error.cause ?? error) : error;
  const message = messageOf(error);
  // What engines say when they can't allocate a buffer or a heap.
  const full = error instanceof RangeError && /alloc|memory/i.test(message);
  return new AimError(code ?? (full ? 'out_of_memory' : otherwise), message, { cause });
}

/** An error as it crosses from the worker: structured cloning would lose its class and its code. */
export type WireError =
  | { kind: 'aim'; code: AimErrorCode; message: string; cause: string | undefined }
  | { kind: 'abort'; message: string };

/** @internal */
export function toWire(error: unknown): WireError {
  const typed = toError(error, 'unsupported');
  if (typed instanceof AimError) {
    const cause = typed.cause === undefined ? undefined : `${nameOf(typed.cause) || 'Error'}: ${messageOf(typed.cause)}`;
    return { kind: 'aim', code: typed.code, message: typed.message, cause };
  }
  return { kind: 'abort', message: typed.message };
}

/** @internal */
export function fromWire(wire: WireError): Error {
  if (wire.kind === 'abort') return new DOMException(wire.message, 'AbortError');
  return new AimError(wire.code, wire.message, wire.cause === undefined ? undefined : { cause: new Error(wire.cause) });
}
