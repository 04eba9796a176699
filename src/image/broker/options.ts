/** What `ebb image mount` asks the broker for, as JSON on its standard input. Checked: it may come from anywhere. */
import * as v from 'valibot';
import { ebbError } from '../../base/errors.ts';

export const brokerOptionEntries = {
  /** Of a remote image its URL. */
  imagePath: v.string(),
  mountPoint: v.string(),
  offsetBytes: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0))),
  partition: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(1))),
  native: v.boolean(),
  /** What to make of a journal that was not replayed. */
  journal: v.optional(v.picklist(['replay', 'full-commits', 'ignore'])),
  allowOther: v.boolean(),
} as const;

const schema = v.object(brokerOptionEntries);

export type BrokerOptions = v.InferOutput<typeof schema>;

/** Throws EINVAL. */
export function parseBrokerOptions(text: string): BrokerOptions {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw ebbError('EINVAL', 'The options are not JSON.', { cause });
  }
  const parsed = v.safeParse(schema, value);
  if (!parsed.success) {
    const [issue] = parsed.issues;
    throw ebbError('EINVAL', `The options are wrong: ${issue.message}.`);
  }
  return parsed.output;
}
