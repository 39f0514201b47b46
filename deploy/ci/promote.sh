#!/bin/sh
# Brings a release into one environment and waits until it is there. The GitHub
# workflow and the GitLab template beside it run this; so can any other CI.
#
#   RELEASE       its name             ENVIRONMENT  where it is to go
#   RELEASE_FILE  what declares it, where it is to be made first
#   RESULTS       files with test results of SUITE, where there are some
#   REASON, TIMEOUT, REPORT (a JUnit file to write) are as the command has them
#
# Exit codes: 0 it is there; 3 it still waits or is on its way; 4 it failed, was
# rolled back, rejected or superseded; others are those of the commands.
set -eu
: "${RELEASE:?names the release}" "${ENVIRONMENT:?names the environment}"

if [ -n "${AUTHORITY:-}" ]; then
  SLIPWAY_CA=$(mktemp)
  export SLIPWAY_CA
  trap 'rm -f "$SLIPWAY_CA"' EXIT
  printf '%s\n' "$AUTHORITY" >"$SLIPWAY_CA"
fi
if [ -n "${RELEASE_FILE:-}" ]; then
  slipway release create -f "$RELEASE_FILE" --name "$RELEASE"
fi
if [ -n "${RESULTS:-}" ]; then
  # shellcheck disable=SC2086 # RESULTS is a pattern
  slipway test-results upload "$RELEASE" $RESULTS --suite "${SUITE:-unit}" --environment "$ENVIRONMENT"
fi
slipway promotion start "$RELEASE" --to "$ENVIRONMENT" --reason "${REASON:-}" --wait --timeout "${TIMEOUT:-1h}" --report "${REPORT:-}"
