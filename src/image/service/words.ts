/** What a user has typed to mount(8) or fuservicemount3, as their mount program passes it on. Pure. */
import { ebbError } from '../../base/errors.ts';
import type { EbbError } from '../../base/errors.ts';
import type { ServerRequest } from '../messages.ts';

export interface ServiceOptions extends Pick<
  ServerRequest,
  'offsetBytes' | 'partition' | 'journal'
> {
  readonly image: string;
  readonly mountPoint: string;
  readonly allowOther: boolean;
}

/** Of mount(8), or about what is always so. */
const ignored =
  /^(|ro|no(suid|dev|exec|atime|auto|user|fail)|auto|users?|owner|group|_netdev|defaults|[xX][-.].*|comment=.*)$/;

/** `words`: the type, then image and directory among options. Throws EINVAL for what is not known. */
export function parseServiceWords(words: readonly string[]): ServiceOptions {
  const places: string[] = [];
  const options: string[] = [];
  const rest = words.slice(1);
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word === '-o') options.push(rest.shift() ?? '');
    else if (word.startsWith('-o')) options.push(word.slice(2));
    else if (word.startsWith('-')) throw wrong(`there is no option ${word}`);
    else places.push(word);
  }
  const [image, mountPoint, more] = places;
  if (image === undefined || mountPoint === undefined || more !== undefined) {
    throw wrong('an image and a directory are wanted');
  }
  let parsed: ServiceOptions = { image, mountPoint, allowOther: false };
  for (const option of options.flatMap((list) => list.split(','))) {
    parsed = { ...parsed, ...meaningOf(option) };
  }
  if (parsed.offsetBytes !== undefined && parsed.partition !== undefined) {
    throw wrong('give either offset= or partition=');
  }
  return parsed;
}

function meaningOf(option: string): Partial<ServiceOptions> {
  if (ignored.test(option)) return {};
  if (option === 'allow_other') return { allowOther: true };
  if (option === 'noload') return { journal: 'ignore' };
  if (option === 'nofastcommit') return { journal: 'full-commits' };
  const [, name, digits] = /^(offset|partition)=([0-9]{1,15})$/.exec(option) ?? [];
  if (name === 'offset') return { offsetBytes: Number(digits) };
  if (name === 'partition' && Number(digits) > 0) return { partition: Number(digits) };
  throw wrong(option === 'rw' ? 'images are mounted read-only' : `there is no option ${option}`);
}

function wrong(what: string): EbbError {
  return ebbError('EINVAL', `The mount options are wrong: ${what}.`);
}
