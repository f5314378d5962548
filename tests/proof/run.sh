#!/bin/bash
# run.sh: all proofs, one after the other, against what was built in $BUILD. Figures that miss their
# target are marked MISSED, and the exit code says so. They measure: keep the machine quiet.
set -uo pipefail
cd "$(dirname "$0")/../.."
export BUILD=${BUILD:-build}
LIMIT=300 # seconds, each
status=0

for proof in restart outage steady memory attacks refusal-times; do
    timeout --kill-after=5 $LIMIT node "tests/proof/$proof.mjs" || status=1
done
exit $status
