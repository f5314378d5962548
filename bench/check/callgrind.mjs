// The gateway under callgrind, and what callgrind wrote.
import { execFileSync } from 'node:child_process';
import { copyFileSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';

const control = (pid, ...args) => execFileSync('callgrind_control', [...args, String(pid)], { stdio: 'ignore' });

export const command = (dir, program, args) => ['valgrind', ['--tool=callgrind', '-q',
  `--callgrind-out-file=${join(dir, 'callgrind.out')}`, program, ...args]];

export const zero = (pid) => control(pid, '--zero');

// Instructions executed since the last zero, by object file: { 'aiwm-gateway': n, 'libssl.so.3': n }.
// The profile is copied to `keep`, if given.
export function dump(pid, dir, keep) {
  control(pid, '--dump');
  const names = readdirSync(dir).filter((name) => /^callgrind\.out\.\d+$/.test(name));
  const counts = {};
  for (const name of names) {
    addUp(readFileSync(join(dir, name), 'utf8'), counts);
    if (keep) copyFileSync(join(dir, name), keep);
    rmSync(join(dir, name));
  }
  return counts;
}

// The profile's own cost lines by `ob=`; the line behind `calls=` is the callee's, counted there.
export function addUp(text, counts = {}) {
  const objects = {};
  let object = '', ofCall = false;
  for (const line of text.split('\n')) {
    const named = /^ob=\((\d+)\)(?: (.*))?$/.exec(line);
    const mentioned = /^cob=\((\d+)\) (.*)$/.exec(line);
    if (named) {
      objects[named[1]] = named[2] !== undefined ? basename(named[2]) : objects[named[1]];
      object = objects[named[1]];
    } else if (mentioned) {
      objects[mentioned[1]] = basename(mentioned[2]);
    } else if (line.startsWith('calls=')) {
      ofCall = true;
    } else if (/^[+\-*\d]/.test(line)) {
      if (!ofCall) counts[object] = (counts[object] ?? 0) + Number(line.split(' ')[1] ?? 0);
      ofCall = false;
    }
  }
  return counts;
}
