/**
 * The five real origins that tests use: nginx, Apache, lighttpd, Caddy and Python's http.server, each with a
 * configuration of its own in a temporary directory, on a free loopback port.
 *
 *     await using origin = await startNginx({ root: tree.path });
 *     await fetch(origin.url);
 *
 * Apache cannot serve as root and runs as www-data then: the tree must be readable for everybody
 * (`chmod 755` what mkdtemp made).
 */
import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { makeCertificates } from './certificates.ts';
import type { Certificates } from './certificates.ts';
import { findProgram, startServer } from './server-process.ts';
import type { RunningServer } from './server-process.ts';
import { waitFor } from './wait-for.ts';

export interface OriginOptions {
  /** Absolute path of the directory to serve. */
  readonly root: string;
  /** Instead of a free port. */
  readonly port?: number;
  /** Require HTTP basic authentication for everything. */
  readonly basicAuth?: { readonly user: string; readonly password: string };
  /** Serve HTTPS with a certificate of a throw-away authority (`makeCertificates`). */
  readonly tls?: Certificates;
  /** Ask for a client certificate of that authority (nginx only). */
  readonly requireClientCertificate?: boolean;
  /** Configuration text for the server (nginx: inside `server {}`; others: at the end). */
  readonly extraConfig?: string;
  /** Environment of the server, e.g. TZ. */
  readonly environment?: Readonly<Record<string, string>>;
}

export interface NginxOptions extends OriginOptions {
  /** Default `html`. `off`: no listings. */
  readonly autoindex?: 'html' | 'json' | 'xml' | 'off';
  /** Default true. */
  readonly exactSize?: boolean;
  readonly localtime?: boolean;
  /** Inside `location / {}`. */
  readonly locationConfig?: string;
  /** Default 2. */
  readonly workers?: number;
}

export interface ApacheOptions extends OriginOptions {
  /** IndexOptions of mod_autoindex. Default `fancy`. */
  readonly index?: 'plain' | 'fancy' | 'table';
  /** More IndexOptions, e.g. `NameWidth=*`. */
  readonly indexOptions?: string;
}

function certificates(options: OriginOptions): Certificates {
  if (options.tls === undefined) throw new Error('no certificates were given');
  return options.tls;
}

function scheme(options: OriginOptions): 'http' | 'https' {
  return options.tls === undefined ? 'http' : 'https';
}

/** htpasswd line that nginx and Apache understand. */
function passwordLine(auth: { user: string; password: string }): string {
  return `${auth.user}:{SHA}${createHash('sha1').update(auth.password).digest('base64')}\n`;
}

function nginxConfig(options: NginxOptions, directory: string, port: number): string {
  const tls = options.tls;
  const format = options.autoindex ?? 'html';
  const onOff = (value: boolean): string => (value ? 'on' : 'off');
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  const clientCertificates =
    options.requireClientCertificate === true
      ? `ssl_client_certificate ${certificates(options).caFile}; ssl_verify_client on;`
      : '';
  return `${process.getuid?.() === 0 ? 'user root;' : ''}
daemon off;
worker_processes ${options.workers ?? 2};
pid ${directory}/nginx.pid;
error_log stderr warn;
events { worker_connections 512; }
http {
  access_log ${directory}/access.log;
  ${paths.map((name) => `${name}_temp_path ${directory}/${name};`).join('\n  ')}
  types { text/html html htm; text/plain txt; }
  default_type application/octet-stream;
  sendfile on;
  keepalive_requests 1000000;
  server {
    listen 127.0.0.1:${port}${tls === undefined ? '' : ' ssl'} backlog=511;
    ${tls === undefined ? '' : `ssl_certificate ${tls.certificateFile};`}
    ${tls === undefined ? '' : `ssl_certificate_key ${tls.keyFile};`}
    ${clientCertificates}
    root "${options.root}";
    ${options.basicAuth === undefined ? '' : `auth_basic "tests"; auth_basic_user_file passwords;`}
    ${options.extraConfig ?? ''}
    location / {
      autoindex ${onOff(format !== 'off')};
      autoindex_format ${format === 'off' ? 'html' : format};
      autoindex_exact_size ${onOff(options.exactSize ?? true)};
      autoindex_localtime ${onOff(options.localtime ?? false)};
      ${options.locationConfig ?? ''}
    }
  }
}
`;
}

let marks = 0;

/**
 * The access log of an nginx with one worker process, in which all requests are that were answered before this call: a
 * client has its answer before nginx has written that down. One worker does one thing after the other, so what comes
 * before a request of our own is written before that one is.
 */
export async function nginxLog(origin: RunningServer): Promise<string> {
  marks += 1;
  const mark = `mark-${process.pid}-${marks}`;
  await (await fetch(`${origin.url}?${mark}`, { method: 'OPTIONS' })).arrayBuffer();
  const file = path.join(origin.directory, 'access.log');
  const read = (): string => readFileSync(file, 'latin1');
  await waitFor(() => read().includes(mark), { what: 'the log of nginx', timeoutMs: 60_000 });
  return read()
    .split('\n')
    .filter((line) => !line.includes('?mark-'))
    .join('\n');
}

/** nginx, `autoindex on`. Its access log is `access.log` in the server's directory. */
export function startNginx(options: NginxOptions): Promise<RunningServer> {
  return startServer({
    command: 'nginx',
    debianPackage: 'nginx-light',
    scheme: scheme(options),
    port: options.port,
    ...(options.environment === undefined ? {} : { environment: options.environment }),
    configure(directory, port) {
      if (options.basicAuth !== undefined) {
        writeFileSync(path.join(directory, 'passwords'), passwordLine(options.basicAuth));
      }
      const file = path.join(directory, 'nginx.conf');
      const environment = Object.keys(options.environment ?? {}).map((name) => `env ${name};\n`);
      writeFileSync(file, environment.join('') + nginxConfig(options, directory, port));
      return ['-e', 'stderr', '-p', directory, '-c', file];
    },
  });
}

const apacheModulesDirectory = '/usr/lib/apache2/modules';

function apacheConfig(options: ApacheOptions, directory: string, port: number): string {
  const tls = options.tls;
  const auth = options.basicAuth !== undefined;
  const modules = ['mpm_event', 'authz_core', 'authn_core', 'alias', 'dir', 'autoindex', 'mime'];
  modules.push('auth_basic', 'authn_file', 'authz_user', 'headers', 'rewrite', 'deflate', 'filter');
  if (tls !== undefined) modules.push('socache_shmcb', 'ssl');
  const load = modules.map(
    (name) => `LoadModule ${name}_module ${apacheModulesDirectory}/mod_${name}.so`,
  );
  const index = { plain: '', fancy: 'FancyIndexing', table: 'FancyIndexing HTMLTable' };
  const indexOptions = `${index[options.index ?? 'fancy']} ${options.indexOptions ?? ''}`.trim();
  const access = auth
    ? `AuthType Basic\n  AuthName tests\n  AuthUserFile ${directory}/passwords\n  Require valid-user`
    : 'Require all granted';
  return `${load.join('\n')}
ServerRoot ${directory}
ServerName 127.0.0.1
PidFile ${directory}/apache.pid
DefaultRuntimeDir ${directory}
Mutex file:${directory}
Listen 127.0.0.1:${port}
${process.getuid?.() === 0 ? 'User www-data\nGroup www-data' : ''}
ErrorLog /dev/stderr
CustomLog ${directory}/access.log "%r %>s %b"
EnableSendfile On
MaxKeepAliveRequests 0
TypesConfig /dev/null
AddType text/html .html
DocumentRoot "${options.root}"
DirectoryIndex index.html
${tls === undefined ? '' : `SSLEngine on\nSSLCertificateFile ${tls.certificateFile}`}
${tls === undefined ? '' : `SSLCertificateKeyFile ${tls.keyFile}`}
<Directory "${options.root}">
  Options +Indexes +FollowSymLinks
  ${indexOptions === '' ? '' : `IndexOptions ${indexOptions}`}
  AllowOverride None
  ${access}
</Directory>
${options.extraConfig ?? ''}
`;
}

/** Apache httpd with mod_autoindex (event MPM, in the foreground). */
export function startApache(options: ApacheOptions): Promise<RunningServer> {
  return startServer({
    command: 'apache2',
    debianPackage: 'apache2',
    scheme: scheme(options),
    port: options.port,
    ...(options.environment === undefined ? {} : { environment: options.environment }),
    configure(directory, port) {
      if (options.basicAuth !== undefined) {
        writeFileSync(path.join(directory, 'passwords'), passwordLine(options.basicAuth));
      }
      execFileSync('chmod', ['755', directory]);
      const file = path.join(directory, 'apache.conf');
      writeFileSync(file, apacheConfig(options, directory, port));
      return ['-f', file, '-DFOREGROUND'];
    },
  });
}

function lighttpdConfig(options: OriginOptions, directory: string, port: number): string {
  const { basicAuth } = options;
  const modules = ['mod_dirlisting', 'mod_accesslog'];
  if (basicAuth !== undefined) modules.push('mod_auth', 'mod_authn_file');
  const auth = `auth.backend = "plain"
auth.backend.plain.userfile = "${directory}/passwords"
auth.require = ( "/" => ( "method" => "basic", "realm" => "tests", "require" => "valid-user" ) )`;
  return `server.modules = ( ${modules.map((name) => `"${name}"`).join(', ')} )
server.document-root = "${options.root}"
server.bind = "127.0.0.1"
server.port = ${port}
server.max-keep-alive-requests = 100000
server.http-parseopts = ( "url-invalid-utf8-reject" => "disable" )
accesslog.filename = "${directory}/access.log"
dir-listing.activate = "enable"
dir-listing.hide-dotfiles = "disable"
dir-listing.encoding = "utf-8"
mimetype.assign = ( ".html" => "text/html", "" => "application/octet-stream" )
${basicAuth === undefined ? '' : auth}
${options.extraConfig ?? ''}
`;
}

/** lighttpd with mod_dirlisting. Takes no TLS (that is a package of its own). */
export function startLighttpd(options: OriginOptions): Promise<RunningServer> {
  return startServer({
    command: 'lighttpd',
    debianPackage: 'lighttpd',
    scheme: 'http',
    port: options.port,
    ...(options.environment === undefined ? {} : { environment: options.environment }),
    configure(directory, port) {
      if (options.basicAuth !== undefined) {
        const { user, password } = options.basicAuth;
        writeFileSync(path.join(directory, 'passwords'), `${user}:${password}\n`);
      }
      const file = path.join(directory, 'lighttpd.conf');
      writeFileSync(file, lighttpdConfig(options, directory, port));
      return ['-D', '-f', file];
    },
  });
}

function caddyConfig(options: OriginOptions, port: number): string {
  const { tls, basicAuth } = options;
  let auth = '';
  if (basicAuth !== undefined) {
    const caddy = findProgram('caddy', 'caddy');
    const args = ['hash-password', '--plaintext', basicAuth.password];
    const hash = execFileSync(caddy, args, { encoding: 'utf8' }).trim();
    auth = `basicauth {\n    ${basicAuth.user} ${hash}\n  }`;
  }
  return `{
  admin off
  auto_https off
}
${scheme(options)}://127.0.0.1:${port}, ${scheme(options)}://localhost:${port} {
  bind 127.0.0.1
  ${tls === undefined ? '' : `tls ${tls.certificateFile} ${tls.keyFile}`}
  ${auth}
  root * "${options.root}"
  file_server browse
  ${options.extraConfig ?? ''}
}
`;
}

/** Caddy with `file_server browse`. */
export function startCaddy(options: OriginOptions): Promise<RunningServer> {
  return startServer({
    command: 'caddy',
    debianPackage: 'caddy',
    scheme: scheme(options),
    port: options.port,
    ...(options.environment === undefined ? {} : { environment: options.environment }),
    configure(directory, port) {
      const file = path.join(directory, 'Caddyfile');
      writeFileSync(file, caddyConfig(options, port));
      return ['run', '--adapter', 'caddyfile', '--config', file];
    },
  });
}

/** Python's `http.server`: no ranges, no keep-alive, HTTP/1.0. Takes neither TLS nor authentication. */
export function startPythonServer(options: OriginOptions): Promise<RunningServer> {
  return startServer({
    command: 'python3',
    debianPackage: 'python3',
    scheme: 'http',
    port: options.port,
    ...(options.environment === undefined ? {} : { environment: options.environment }),
    configure(_directory, port) {
      const args = ['-m', 'http.server', '--bind', '127.0.0.1', '--directory', options.root];
      return [...args, String(port)];
    },
  });
}

export { makeCertificates };
export type { Certificates, RunningServer };
