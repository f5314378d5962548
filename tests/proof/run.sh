#!/bin/bash
# run.sh [NAME...]: these proofs, or those that take some five minutes together, one after the other,
# against what was built in $BUILD. Figures that miss their target are marked MISSED, and the exit code
# says so. They measure: keep the machine quiet.
set -uo pipefail
cd "$(dirname "$0")/../.."
export BUILD=${BUILD:-build}
LIMIT=600 # seconds, each
status=0

[ $# -gt 0 ] || set -- restart outage steady memory attacks refusal-times
for proof; do
    timeout --kill-after=5 $LIMIT node "tests/proof/$proof.mjs" || status=1
done
exit $status
