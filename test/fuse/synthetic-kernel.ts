/** The kernel's side of a session, in memory: sends requests, keeps the answers. */
import { InitFlag, Opcode, opcodeName } from '../../src/fuse/constants.ts';
import { Session } from '../../src/fuse/session.ts';
import { WireBuffer } from '../../src/fuse/wire/buffer.ts';
import { decodeReply, encodeRequest } from '../../src/fuse/wire/message.ts';
import type { FileSystem } from '../../src/fuse/filesystem.ts';
import type { SessionOptions, SessionProblem } from '../../src/fuse/session.ts';
import type { Transport } from '../../src/fuse/transport.ts';
import type { ReplyMessage, RequestMessage } from '../../src/fuse/wire/message.ts';

/** What Linux 6.18 offers. */
export const offeredFlags = 0x73ff_fffbn | (0x5fdn << 32n);

export class SyntheticKernel implements Transport {
  readonly session: Session;
  readonly problems: SessionProblem[] = [];
  /** Raw messages in the order they came. */
  readonly sent: Uint8Array[] = [];
  /** What the next send returns instead of 0. */
  sendErrno = 0;
  #nextUnique = 2;

  constructor(fileSystem: FileSystem, options: SessionOptions = {}) {
    this.session = new Session(fileSystem, this, {
      report: (problem) => void this.problems.push(problem),
      ...options,
    });
  }

  send(bytes: Uint8Array, lengthBytes: number): number {
    if (this.sendErrno === 0) this.sent.push(bytes.slice(0, lengthBytes));
    return this.sendErrno;
  }

  readFile(_fd: number, bytes: Uint8Array, lengthBytes: number, offset: number): number {
    bytes.fill(offset % 256, 0, lengthBytes);
    return lengthBytes;
  }

  /** Delivers a request; returns its unique. */
  deliver(message: Partial<RequestMessage> & { readonly opcode: number }): number {
    const unique = message.unique ?? this.#nextUnique;
    this.#nextUnique = Math.max(this.#nextUnique, unique) + 2;
    const length = encodeRequest(this.session.request, { ...message, unique });
    this.session.receive(length);
    return unique;
  }

  /** Delivers a request and returns its one answer. */
  ask(message: Partial<RequestMessage> & { readonly opcode: number }): ReplyMessage {
    const before = this.sent.length;
    const unique = this.deliver(message);
    if (this.sent.length !== before + 1) {
      const count = this.sent.length - before;
      throw new Error(`${opcodeName(message.opcode)} got ${count} answers`);
    }
    const answer = this.answer(message.opcode);
    if (answer.unique !== unique) throw new Error('another request was answered');
    return answer;
  }

  /** The last answer, decoded as the kernel would. */
  answer(opcode: number): ReplyMessage {
    const bytes = this.sent.at(-1) ?? new Uint8Array(0);
    const buffer = new WireBuffer(bytes.length);
    buffer.bytes.set(bytes);
    return decodeReply(buffer, bytes.length, opcode);
  }

  init(minor = 45, flags: bigint = offeredFlags, major = 7): ReplyMessage {
    return this.ask({
      opcode: Opcode.INIT,
      body: {
        major,
        minor,
        max_readahead: 131_072,
        flags: Number(BigInt.asUintN(32, flags)),
        flags2: Number(flags >> 32n),
      },
    });
  }

  /** The flags of an INIT answer. */
  static flagsOf(answer: ReplyMessage): bigint {
    const body = answer.bodies[0] ?? {};
    const low = BigInt(body.flags ?? 0);
    return (low & InitFlag.INIT_EXT) === 0n ? low : low | (BigInt(body.flags2 ?? 0) << 32n);
  }
}
