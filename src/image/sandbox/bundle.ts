/**
 * Makes one file of an entry point and the modules that it loads: Node needs a third of a millisecond for each module
 * that it finds, reads and links, and behind the gate (filter.ts) each of its system calls asks the broker.
 *
 * It knows the forms that our sources have (names are imported and exported, nothing by default, no cycles), and throws
 * for all others: then the sources are run as they are.
 */
import { readFileSync } from 'node:fs';
import { isBuiltin, stripTypeScriptTypes } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ebbError } from '../../base/errors.ts';
import type { EbbError } from '../../base/errors.ts';

export interface Bundle {
  /** A module. */
  readonly code: string;
  /** The sources that are in it, absolute. */
  readonly files: readonly string[];
}

const importForm = /^import (?:(\{[^}]*\})|\* as (\w+)|(\w+))\s+from '([^']+)';$/gm;
const exportForm = /^export ((?:async )?(?:function\*?|class|const) (\w+))/gm;
const remainingForm = /^(?:import|export)\b.*$|\bimport\.meta\b.*|\bimport\(.*/m;

class Bundler {
  /** Those of Node and of packages: by what is imported, then as a name in the bundle. */
  readonly #outer = new Map<string, string>();
  /** The sources, in the order in which they run, each as a name in the bundle. */
  readonly #names = new Map<string, string>();
  readonly #under = new Set<string>();
  #code = '';

  bundle(entry: string): Bundle {
    const body = this.#body(entry);
    const outer = [...this.#outer].map(
      ([specifier, name]) => `const ${name} = ${outerModule(specifier)};\n`,
    );
    // Not in a function: only here may it wait for something.
    const code = `${outer.join('')}${this.#code}${body.code}\n`;
    return { code, files: [...this.#names.keys(), entry] };
  }

  /** The module without imports and exports, and what it exports. */
  #body(file: string): { readonly code: string; readonly exports: readonly string[] } {
    if (this.#under.has(file)) throw refused(file, 'is in a cycle');
    this.#under.add(file);
    const imports: string[] = [];
    const exports: string[] = [];
    const code = stripTypeScriptTypes(readFileSync(file, 'utf8'))
      .replaceAll(importForm, (whole, names?: string, all?: string, main?: string, from = '') => {
        if (main !== undefined && from.startsWith('.')) return whole;
        const what = names?.replaceAll(/\s+as\s+/g, ': ') ?? all ?? main ?? '';
        imports.push(`const ${what.replaceAll(/\s+/g, ' ')} = ${this.#module(file, from)};`);
        return '';
      })
      .replaceAll(exportForm, (_all, declaration: string, name: string) => {
        exports.push(name);
        return declaration;
      })
      .replaceAll('import.meta.dirname', () => JSON.stringify(path.dirname(file)));
    const [remaining] = remainingForm.exec(code) ?? [];
    if (remaining !== undefined) throw refused(file, `has "${remaining}"`);
    this.#under.delete(file);
    return { code: `${imports.join('\n')}\n${code}`, exports };
  }

  /** The name of a module in the bundle, which it is added to. */
  #module(from: string, specifier: string): string {
    if (!specifier.startsWith('.')) return this.#outerModule(specifier);
    const file = path.join(path.dirname(from), specifier);
    const known = this.#names.get(file);
    if (known !== undefined) return known;
    const { code, exports } = this.#body(file);
    const name = `__m${this.#names.size}`;
    this.#names.set(file, name);
    this.#code += `const ${name} = (() => {\n${code}\nreturn { ${exports.join(', ')} };\n})();\n`;
    return name;
  }

  #outerModule(specifier: string): string {
    const place = isBuiltin(specifier) ? specifier : fileURLToPath(import.meta.resolve(specifier));
    const known = this.#outer.get(place);
    if (known !== undefined) return known;
    const name = `__o${this.#outer.size}`;
    this.#outer.set(place, name);
    return name;
  }
}

/**
 * As CommonJS gets it, whose default export is all of it. An import would make a list of what Node's module exports,
 * and for that load all that Node loads only when it is used: 10 ms for node:fs alone.
 */
function outerModule(specifier: string): string {
  const quoted = JSON.stringify(specifier);
  const get = (module: string): string => `process.getBuiltinModule(${module})`;
  return isBuiltin(specifier)
    ? get(quoted)
    : `${get("'node:module'")}.createRequire(${quoted})(${quoted})`;
}

function refused(file: string, why: string): EbbError {
  return ebbError('EINVAL', `${file} cannot be part of one file: it ${why}.`);
}

/** `entry`: absolute. Throws EINVAL for forms that it does not know, and what reading throws. */
export function bundle(entry: string): Bundle {
  return new Bundler().bundle(entry);
}
