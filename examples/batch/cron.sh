#!/bin/bash
# Every night: yesterday's log is checked, a policy is trained on it, and promoted where it is clearly better.
#   15 3 * * * cd /srv/shop && examples/batch/cron.sh >>nightly.log 2>&1
# nightly.toml names the log of this night. Two nights never run at once; what a night left unfinished, the next goes on
# with. A night without a promotion is a good night (the gate's exit code 1).
set -u
exec 9>.nightly.lock
flock -n 9 || { echo "last night's job still runs" >&2; exit 0; }

recil log check "${RECIL_LOG:-today.csv}" --quiet --format json >checked.json || exit
recil run "${RECIL_FILE:-nightly.toml}" --quiet --format csv >found.csv || exit

# The best of the clones' finetunings, by whatever rule is yours; here: the newest policy of this method.
policy=$(ls -td "${RECIL_WORK:-.recil}"/*/policies/*/policy | head -n 1)
recil promote "$policy" --name "${RECIL_NAME:-shop}" --log "${RECIL_JUDGE:-held_out}" --quiet
code=$?
[ "$code" -eq 1 ] && exit 0
exit "$code"
