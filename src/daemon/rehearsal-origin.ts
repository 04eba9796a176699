/**
 * A web server in this process, for the rehearsal: a root with directories, each with one large file of zeros. Serves
 * whoever asks on loopback while it is open, which is a fraction of a second; there is nothing in it to be seen.
 */
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';

export const directoryNames = ['d0', 'd1', 'd2', 'd3'] as const;
export const fileName = 'f.bin';
export const fileBytes = 64 * 1024 * 1024;
const bodyBytesMax = 4 * 1024 * 1024;
const headBytesMax = 16 * 1024;
const dateText = 'Sat, 01 Jan 2000 00:00:00 GMT';
const listedText = '01-Jan-2000 00:00';
const zeros = Buffer.alloc(bodyBytesMax);

export interface RehearsalOrigin extends AsyncDisposable {
  readonly url: string;
}

export async function startRehearsalOrigin(): Promise<RehearsalOrigin> {
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    let head = '';
    socket.setEncoding('latin1').on('data', (text) => {
      head += String(text);
      if (head.length > headBytesMax) socket.destroy();
      if (!head.endsWith('\r\n\r\n')) return;
      answer(socket, head);
      head = '';
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ port: 0, host: '127.0.0.1' }, resolve);
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => {
        server.close(resolve);
      });
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

function answer(socket: Socket, head: string): void {
  const path = /^(?:GET|HEAD) (\S+) /.exec(head)?.[1] ?? '';
  if (path.endsWith('/')) return answerListing(socket, path, head.startsWith('HEAD '));
  const range = /^range: bytes=(\d+)-(\d+)\r$/m.exec(head);
  const fields = [`Last-Modified: ${dateText}`, 'ETag: "0"', 'Accept-Ranges: bytes'];
  if (range === null) {
    socket.write(headText('200 OK', fileBytes, fields));
    return undefined;
  }
  const lengthBytes = Math.min(Number(range[2]) - Number(range[1]) + 1, bodyBytesMax);
  const contentRange = `Content-Range: bytes ${range[1]}-${range[2]}/${fileBytes}`;
  socket.write(headText('206 Partial Content', lengthBytes, [...fields, contentRange]));
  socket.write(zeros.subarray(0, lengthBytes));
  return undefined;
}

function answerListing(socket: Socket, path: string, headOnly: boolean): void {
  const rows =
    path === '/'
      ? directoryNames.map((name) => `<a href="${name}/">${name}/</a> ${listedText} -`)
      : [`<a href="${fileName}">${fileName}</a> ${listedText} ${fileBytes}`];
  const title = `Index of ${path}`;
  const page =
    `<html>\r\n<head><title>${title}</title></head>\r\n<body>\r\n<h1>${title}</h1><hr><pre>` +
    `<a href="../">../</a>\r\n${rows.join('\r\n')}\r\n</pre><hr></body>\r\n</html>\r\n`;
  const text = headText('200 OK', page.length, ['Content-Type: text/html']);
  socket.write(headOnly ? text : text + page);
}

function headText(status: string, lengthBytes: number, fields: readonly string[]): string {
  const all = ['Server: nginx', `Content-Length: ${lengthBytes}`, ...fields];
  return `HTTP/1.1 ${status}\r\n${all.join('\r\n')}\r\n\r\n`;
}
