// The gateway under callgrind, and what callgrind wrote.
import { execFileSync } from 'node:child_process';
import { copyFileSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';

const control = (pid, ...args) => execFileSync('callgrind_control', [...args, String(pid)], { stdio: 'ignore' });

export const command = (dir, program, args) => ['valgrind', ['--tool=callgrind', '-q', '--separate-threads=yes',
  `--callgrind-out-file=${join(dir, 'callgrind.out')}`, program, ...args]];

export const zero = (pid) => control(pid, '--zero');

const sum = (counts) => Object.values(counts).reduce((total, n) => total + n, 0);

// Instructions executed since the last zero by the busiest thread, by object file:
// { 'aiwm-gateway': n, 'libssl.so.3': n }. That thread is the worker; what others do by the clock
// (files watched, admin, log) is no request's. Its profile is copied to `keep`, if given.
export function dump(pid, dir, keep) {
  control(pid, '--dump');
  const names = readdirSync(dir).filter((name) => /^callgrind\.out\.\d+-\d+$/.test(name));
  const threads = names.map((name) => ({ name, counts: addUp(readFileSync(join(dir, name), 'utf8')) }));
  const { name, counts } = threads.reduce((a, b) => sum(a.counts) >= sum(b.counts) ? a : b);
  if (keep) copyFileSync(join(dir, name), keep);
  for (const other of names) rmSync(join(dir, other));
  return counts;
}

// The profile's own cost lines by `ob=`; the line behind `calls=` is the callee's, counted there.
export function addUp(text) {
  const counts = {}, objects = {};
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
