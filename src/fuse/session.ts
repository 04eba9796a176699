/**
 * One FUSE connection as seen by one thread: bytes in, bytes out, no I/O of its own. It negotiates,
 * dispatches, and sees to it that every request gets exactly one answer, whatever the file system
 * does.
 *
 * read(2) into `session.request.bytes`, then `session.receive(count)`; answers leave through the
 * transport.
 */
import { Errno } from '../base/errno.ts';
import { SessionCall } from './call.ts';
import { InitFlag, Opcode, opcodeName, readBufferMinimumBytes } from './constants.ts';
import { handlers } from './dispatch.ts';
import { bodyAt, Incoming } from './incoming.ts';
import { InterruptLog } from './interrupts.ts';
import { largestAnswerBytes, negotiate } from './negotiation.ts';
import { Replier } from './replier.ts';
import { ProtocolError, WireBuffer } from './wire/buffer.ts';
import { initOut } from './wire/replies.ts';
import {
  batchForgetIn,
  forgetOne,
  initCompatInBytes,
  initIn,
  interruptIn,
  notifyRetrieveIn,
} from './wire/requests.ts';
import type { ConnectionInfo, FileSystem } from './filesystem.ts';
import type { InitAnswer, NegotiationOptions } from './negotiation.ts';
import type { Transport } from './transport.ts';

/** Something that should not have happened while serving; the request was answered all the same. */
export interface SessionProblem {
  /** `LOOKUP`, `READ`, ... */
  readonly operation: string;
  readonly unique: number;
  readonly nodeId: number;
  readonly message: string;
  readonly error: unknown;
}

export interface SessionOptions extends NegotiationOptions {
  /**
   * Told of bugs of the file system and malformed messages. Default: a process warning for the
   * first ones.
   */
  readonly report?: (problem: SessionProblem) => void;
  /** The connection was negotiated already: by another thread, or by a former server process. */
  readonly established?: ConnectionInfo;
  /** Shared by the threads of a connection; default: one of its own. */
  readonly interrupts?: InterruptLog;
  /** Wakes the other threads of the connection, after an INTERRUPT was put into the shared log. */
  readonly wakeOthers?: () => void;
}

/** Requests carry at most max_write bytes of data after header, struct and names. */
const requestOverheadBytes = 4096;
/**
 * Without a `report` callback: problems shown as process warnings, so that a bug cannot flood a
 * log.
 */
const warningsMax = 20;
const twoTo32 = 4_294_967_296;
const resendMask = 0x7fff_ffff;
/** Node ids are 53 bits; a larger one was never given out. */
const nodeIdHighMaximum = 0x1f_ffff;

export class Session {
  /** Where the next request is read into; large enough for any. */
  readonly request: WireBuffer;
  readonly replier: Replier;
  readonly #fileSystem: FileSystem;
  readonly #options: SessionOptions;
  readonly #incoming: Incoming;
  readonly #call: SessionCall;
  readonly #interrupts: InterruptLog;
  #connection: ConnectionInfo | undefined;
  #warnings = 0;
  #destroyed = false;

  /** `fileSystem.init` is called when INIT arrives, or now if the connection is `established`. */
  constructor(fileSystem: FileSystem, transport: Transport, options: SessionOptions = {}) {
    this.#fileSystem = fileSystem;
    this.#options = options;
    const answerBytes = Math.max(
      largestAnswerBytes(options),
      options.established?.maxWriteBytes ?? 0,
    );
    this.request = new WireBuffer(
      Math.max(readBufferMinimumBytes, requestOverheadBytes + answerBytes),
    );
    this.replier = new Replier(transport, answerBytes);
    this.#incoming = new Incoming(this.request);
    this.#call = new SessionCall(this.replier);
    this.#interrupts = options.interrupts ?? new InterruptLog();
    if (options.established !== undefined) this.#establish(options.established);
  }

  /** What was agreed on; undefined before INIT. */
  get connection(): ConnectionInfo | undefined {
    return this.#connection;
  }

  /** Handles the message in the first `lengthBytes` of `request`. Never throws. */
  receive(lengthBytes: number): void {
    const { words } = this.request;
    const call = this.#call;
    const uniqueHigh = words[3] ?? 0;
    call.opcode = words[1] ?? 0;
    call.unique = (uniqueHigh & resendMask) * twoTo32 + (words[2] ?? 0);
    call.resent = uniqueHigh > resendMask;
    call.nodeId = (words[5] ?? 0) * twoTo32 + (words[4] ?? 0);
    call.uid = words[6] ?? 0;
    call.gid = words[7] ?? 0;
    call.pid = words[8] ?? 0;
    if (lengthBytes < bodyAt || words[0] !== lengthBytes) return this.#receiveBroken(lengthBytes);
    this.#incoming.endBytes = lengthBytes - this.request.u16(36) * 8;
    call.start();
    try {
      this.#dispatch(call.opcode);
    } catch (error) {
      this.#failed(error);
    } finally {
      call.finish();
      this.#fileSystem.admitted?.();
    }
  }

  /**
   * Another thread asked for attention: passes on interrupts, then `fileSystem.wakeup()`. Never
   * throws.
   */
  wakeup(): void {
    try {
      this.#passInterrupts();
      this.#fileSystem.wakeup?.();
    } catch (error) {
      this.#report('wakeup', error);
    }
  }

  /** The connection is over: `fileSystem.destroy()`, once. Never throws. */
  end(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    try {
      this.#fileSystem.destroy?.();
    } catch (error) {
      this.#report('destroy', error);
    }
  }

  #dispatch(opcode: number): void {
    switch (opcode) {
      case Opcode.FORGET:
        return this.#forget();
      case Opcode.BATCH_FORGET:
        return this.#batchForget();
      case Opcode.INTERRUPT:
        return this.#interrupt();
      case Opcode.NOTIFY_REPLY:
        return this.#notifyReply();
      case Opcode.INIT:
        return this.#init();
      default:
        return this.#request(opcode);
    }
  }

  /** Everything that has an answer and a method of its own. */
  #request(opcode: number): void {
    const call = this.#call;
    if (this.#connection === undefined) throw new ProtocolError('a request came before INIT');
    if ((this.request.words[5] ?? 0) > nodeIdHighMaximum) return void call.error(Errno.ESTALE);
    if (opcode === Opcode.DESTROY) {
      this.end();
      return void call.ok();
    }
    const handler = handlers[opcode];
    if (handler === undefined) return void call.error(Errno.ENOSYS);
    this.#fileSystem.admit?.(call);
    handler(this.#fileSystem, call, this.#incoming);
    if (call.state === 'open') {
      this.#report(opcodeName(opcode), new Error('the method returned without an answer'));
      call.error(Errno.EIO);
    } else if (call.state === 'deferred' && this.#interrupts.has(call.unique)) {
      this.#fileSystem.interrupt?.(call.unique);
    }
  }

  /** A handler threw: the request is answered if nobody did, and somebody is told. */
  #failed(error: unknown, isNamed = true): void {
    const call = this.#call;
    const operation = opcodeName(call.opcode);
    this.#report(operation, error);
    const { opcode, state } = call;
    const hasAnswer =
      opcode !== Opcode.FORGET &&
      opcode !== Opcode.BATCH_FORGET &&
      opcode !== Opcode.INTERRUPT &&
      opcode !== Opcode.NOTIFY_REPLY;
    if (!hasAnswer || !isNamed || state === 'answered') return;
    // After `defer` nobody may have taken the call over. A second answer only finds it gone.
    const errno = error instanceof ProtocolError ? error.errno : Errno.EIO;
    try {
      this.replier.error(call, errno);
    } catch (failure) {
      this.#report(operation, failure);
    }
  }

  #init(): void {
    const call = this.#call;
    this.#incoming.need(initCompatInBytes);
    const buffer = this.request;
    const at = initIn.offsets;
    const isLong = this.#incoming.endBytes >= bodyAt + initIn.sizeBytes;
    const flags2 = isLong ? buffer.u32(bodyAt + at.flags2) : 0;
    const decision = negotiate(
      {
        major: buffer.u32(bodyAt + at.major),
        minor: buffer.u32(bodyAt + at.minor),
        maxReadaheadBytes: buffer.u32(bodyAt + at.max_readahead),
        flags: (BigInt(flags2) << 32n) | BigInt(buffer.u32(bodyAt + at.flags)),
      },
      this.#options,
    );
    if (decision.kind === 'refused') {
      this.#report('INIT', new Error(decision.why));
      call.error(Errno.EPROTO);
      return;
    }
    if (decision.kind === 'other-major') return this.#answerInit(undefined);
    this.#establish(decision.info);
    this.#answerInit(decision.answer);
  }

  #establish(info: ConnectionInfo): void {
    this.#connection = info;
    this.#incoming.setxattrExtended = (info.flags & InitFlag.SETXATTR_EXT) !== 0n;
    this.#fileSystem.init?.(info);
  }

  /**
   * struct fuse_init_out. Without an answer: only our major version, and the kernel sends INIT
   * again.
   */
  #answerInit(answer: InitAnswer | undefined): void {
    this.#call.answerWith(initOut.sizeBytes, (buffer, at) => {
      initOut.encode(buffer, at, {
        major: 7,
        minor: answer?.minor ?? 0,
        max_readahead: answer?.maxReadaheadBytes ?? 0,
        flags: Number(BigInt.asUintN(32, answer?.flags ?? 0n)),
        flags2: Number((answer?.flags ?? 0n) >> 32n),
        max_background: answer?.maxBackground ?? 0,
        congestion_threshold: answer?.congestionThreshold ?? 0,
        max_write: answer?.maxWriteBytes ?? 0,
        time_gran: 1,
        max_pages: answer?.maxPages ?? 0,
        max_stack_depth: answer?.maxStackDepth ?? 0,
      });
    });
  }

  #forget(): void {
    this.#incoming.need(8);
    this.#fileSystem.forget?.(this.request.u64(16), this.request.u64(bodyAt));
  }

  #batchForget(): void {
    this.#incoming.need(batchForgetIn.sizeBytes);
    if (this.#fileSystem.forget === undefined) return;
    const count = this.request.u32(bodyAt);
    this.#incoming.need(batchForgetIn.sizeBytes + count * forgetOne.sizeBytes);
    for (let index = 0; index < count; index += 1) {
      const at = bodyAt + batchForgetIn.sizeBytes + index * forgetOne.sizeBytes;
      this.#fileSystem.forget(this.request.u64(at), this.request.u64(at + 8));
    }
  }

  /**
   * Answered only with ENOSYS (never again, please); the interrupted request itself gets the EINTR.
   */
  #interrupt(): void {
    if (this.#fileSystem.interrupt === undefined) return void this.#call.error(Errno.ENOSYS);
    this.#incoming.need(interruptIn.sizeBytes);
    const high = this.request.u32(bodyAt + 4) & resendMask;
    this.#interrupts.add(high * twoTo32 + this.request.u32(bodyAt));
    this.#passInterrupts();
    this.#options.wakeOthers?.();
  }

  #passInterrupts(): void {
    for (;;) {
      const unique = this.#interrupts.take();
      if (unique === undefined) return;
      this.#fileSystem.interrupt?.(unique);
    }
  }

  #notifyReply(): void {
    this.#incoming.need(notifyRetrieveIn.sizeBytes);
    const at = notifyRetrieveIn.offsets;
    const size = this.request.u32(bodyAt + at.size);
    const data = this.#incoming.dataAt(bodyAt + notifyRetrieveIn.sizeBytes, size);
    const offset = this.request.u64(bodyAt + at.offset);
    this.#fileSystem.retrieved?.(this.#call.unique, this.#call.nodeId, offset, data);
  }

  /**
   * The length is wrong. If there is a whole header that names a request, that request is answered
   * EIO.
   */
  #receiveBroken(lengthBytes: number): void {
    const call = this.#call;
    const isNamed = lengthBytes >= bodyAt;
    if (!isNamed) call.opcode = 0;
    call.start();
    this.#failed(new ProtocolError(`a message of ${lengthBytes} bytes is malformed`), isNamed);
    call.finish();
  }

  #report(operation: string, error: unknown): void {
    const { unique, nodeId } = this.#call;
    const message = error instanceof Error ? error.message : String(error);
    const problem: SessionProblem = { operation, unique, nodeId, message, error };
    try {
      if (this.#options.report !== undefined) this.#options.report(problem);
      else if ((this.#warnings += 1) <= warningsMax) {
        process.emitWarning(`FUSE ${operation} of node ${nodeId}: ${message}`, 'EbbFuseWarning');
      }
    } catch {
      // Whoever listens to problems must not become one.
    }
  }
}
