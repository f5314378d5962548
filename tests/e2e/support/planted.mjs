// Secrets that a test plants, and looks for where they must not be.
import assert from 'node:assert/strict';

/** Every planted thing and the ways in which it might be written. */
export class Planted {
    words = new Map(); // what it looks like -> what it is

    add(what, text) {
        const bytes = Buffer.from(text);
        for (const spelled of [text, bytes.toString('hex'), bytes.toString('base64').replace(/=+$/, ''),
            bytes.toString('base64url'), encodeURIComponent(text)])
            this.words.set(spelled, what);
    }

    /** A token is as bad without its first part, which is no secret. */
    addToken(what, token) {
        const [, claims, signature] = token.split('.');
        this.add(what, claims);
        this.add(what, signature);
    }

    assertNotIn(where, text) {
        const found = new Set([...this.words].filter(([word]) => text.includes(word)).map(([, what]) => what));
        assert.equal(found.size, 0, `in ${where}: ${[...found].join(', ')}`);
    }
}
