/**
 * The process that `probeKernel` lets map a file: `probe-child.ts PATH OFFSET LENGTH`. One of its own, because the
 * one that answers must not wait for itself.
 */
import { argv } from 'node:process';
import { OpenFlag, openFd } from '../sys/fd.ts';
import { tryMap } from '../sys/map.ts';

const [path = '', offset = '', lengthBytes = ''] = argv.slice(2);
using file = openFd(path, OpenFlag.rdonly);
tryMap(file.fd, Number(offset), Number(lengthBytes));
