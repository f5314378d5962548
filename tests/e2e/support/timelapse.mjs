// Deadlines without waiting: the gateway runs with a clock that goes many times as fast.
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { root } from './child.mjs';
import { temporary } from './temporary.mjs';

/** The environment that makes a child's time go `factor` times as fast. Not for sanitizer builds:
 * their runtime wants to be the first library loaded. */
export function timelapse(factor) {
    const library = path.join(temporary('timelapse'), 'timelapse.so');
    execFileSync(process.env.CC ?? 'gcc', ['-D_GNU_SOURCE', '-O2', '-shared', '-fPIC', '-o', library,
        path.join(root, 'tests/support/timelapse.c'), '-ldl']);
    return { LD_PRELOAD: library, TIMELAPSE: String(factor) };
}
