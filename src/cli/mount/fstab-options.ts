/**
 * `-o ttl=5m,allow_other` becomes `--ttl=5m --allow-other`, so that fstab lines and mount(8) work with the same
 * options and the same checks. Pure.
 */

/**
 * Options that mount(8) hands on or that only say when to mount; they ask nothing of Ebb, or what always holds (`ro`,
 * `nosuid`, `nodev`).
 */
const ignored: ReadonlySet<string> = new Set([
  'defaults',
  'ro',
  'rw',
  'auto',
  'noauto',
  'nofail',
  '_netdev',
  'user',
  'nouser',
  'users',
  'owner',
  'group',
  'suid',
  'nosuid',
  'dev',
  'nodev',
  'exec',
  'sync',
  'async',
  'atime',
  'noatime',
  'relatime',
  'norelatime',
  'strictatime',
  'diratime',
  'nodiratime',
]);

/** In fstab `user` is mount(8)'s; the HTTP user is `user=NAME`, and both can stand there. */
function isIgnored(option: string): boolean {
  return ignored.has(option) || option.startsWith('x-') || option.startsWith('comment=');
}

/** Replaces each `-o LIST` by long options; other words stay as they are, and nothing changes after `--`. */
export function expandFstabOptions(argv: readonly string[]): string[] {
  const words: string[] = [];
  for (let index = 0; index < argv.length; index += 1) {
    const word = argv[index] ?? '';
    if (word === '--') return [...words, ...argv.slice(index)];
    if (word === '-o' && index + 1 < argv.length) {
      index += 1;
      words.push(...expandList(argv[index] ?? ''));
    } else if (/^-o./.test(word)) {
      words.push(...expandList(word.slice(2)));
    } else {
      words.push(word);
    }
  }
  return words;
}

function expandList(list: string): string[] {
  const options = list.split(',');
  // As in mount(8), the later of the two counts: `noexec,exec` is what `user,exec` comes as.
  const lastExec = options.findLast((option) => option === 'exec' || option === 'noexec');
  return options
    .filter((option) => option !== '' && !isIgnored(option))
    .filter((option) => option !== 'noexec' || lastExec === 'noexec')
    .map((option) => {
      const equals = option.indexOf('=');
      const name = (equals < 0 ? option : option.slice(0, equals)).replaceAll('_', '-');
      return `--${name}${equals < 0 ? '' : option.slice(equals)}`;
    });
}
