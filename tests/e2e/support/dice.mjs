// Numbers that are the same in every run with the same seed (mulberry32).
export class Dice {
    constructor(seed) {
        this.seed = seed >>> 0;
        this.state = this.seed;
    }

    /** 0 to n - 1. */
    below(n) {
        this.state = (this.state + 0x6d2b79f5) >>> 0;
        let t = Math.imul(this.state ^ (this.state >>> 15), this.state | 1);
        t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
        return ((t ^ (t >>> 14)) >>> 0) % n;
    }

    /** low to high, both included. */
    between(low, high) {
        return low + this.below(high - low + 1);
    }

    one(list) {
        return list[this.below(list.length)];
    }

    /** True in one of n throws. */
    oneIn(n) {
        return this.below(n) === 0;
    }

    /** Dice of their own, so that who throws more does not change what others throw. */
    child() {
        return new Dice(this.below(2 ** 32));
    }
}
