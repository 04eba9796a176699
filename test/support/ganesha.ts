/**
 * nfs-ganesha over a mount: NFSv4 alone, on loopback, without rpcbind, D-Bus or a line in /etc. Needs root and the
 * Debian packages nfs-ganesha, nfs-ganesha-vfs.
 */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { startServer } from './server-process.ts';
import type { RunningServer } from './server-process.ts';

/** Where clients find the export. */
export const nfsExportName = 'tree';

/** `port`: that of a server before, whose clients go on. */
export function startGanesha(exported: string, port?: number): Promise<RunningServer> {
  return startServer({
    command: 'ganesha.nfsd',
    debianPackage: 'nfs-ganesha',
    scheme: 'nfs',
    port,
    configure: (directory, chosen) => {
      const file = path.join(directory, 'ganesha.conf');
      writeFileSync(file, configurationOf(exported, directory, chosen));
      const log = path.join(directory, 'ganesha.log');
      return ['-F', '-f', file, '-L', log, '-p', path.join(directory, 'pid'), '-N', 'EVENT'];
    },
  });
}

function configurationOf(exported: string, directory: string, port: number): string {
  return `
    NFS_CORE_PARAM { Protocols = 4; NFS_Port = ${port}; Bind_addr = 127.0.0.1;
      Enable_NLM = false; Enable_RQUOTA = false; }
    NFSV4 { Graceless = true; RecoveryBackend = fs; RecoveryRoot = "${directory}/recovery";
      Only_Numeric_Owners = true; }
    NFS_KRB5 { Active_krb5 = false; }
    EXPORT { Export_Id = 1; Path = "${exported}"; Pseudo = "/${nfsExportName}"; Access_Type = RW; Squash = None;
      SecType = sys; Protocols = 4; Transports = TCP; Filesystem_Id = 1.1;
      FSAL { Name = VFS; } }
  `;
}
