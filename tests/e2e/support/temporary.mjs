// Directories of a test's own, which go with its process at the latest.
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const directories = new Set();
process.on('exit', () => {
    for (const dir of directories) fs.rmSync(dir, { recursive: true, force: true });
});

export function temporary(name) {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), `aiwm-${name}-`));
    directories.add(dir);
    return dir;
}

export function discard(dir) {
    directories.delete(dir);
    fs.rmSync(dir, { recursive: true, force: true });
}
