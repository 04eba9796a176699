/**
 * The two names that no directory entry has: with EXPORT_SUPPORT the kernel looks up `.` and `..` of a node id to open
 * a file handle of what it has forgotten (fs/fuse/inode.c, fuse_get_dentry and fuse_get_parent).
 */
const dot = 0x2e;

/** What is asked for: the node itself, or the directory that it is in; undefined for an ordinary name. */
export function handleName(name: Uint8Array): 'self' | 'parent' | undefined {
  if (name[0] !== dot || name.length > 2) return undefined;
  if (name.length === 1) return 'self';
  return name[1] === dot ? 'parent' : undefined;
}
