#!/bin/sh
# Brings a release into one environment and waits until it is there. The GitHub
# action and the GitLab template run this; so can any other CI.
#
#   RELEASE       its name             ENVIRONMENT  where it is to go
#   RELEASE_FILE  what declares it, where it is to be made first
#   RESULTS       files with test results of SUITE, where there are some
#   REASON, TIMEOUT, REPORT (a JUnit file to write) are as the command has them
#   AUTHORITY     the authority's certificate, PEM, where it is a private one
#   PROGRAM       where the program is fetched from that is not there yet, and
#                 PROGRAM_SHA256 what it must be
#
# Exit codes: 0 it is there; 3 it still waits or is on its way; 4 it failed, was
# rolled back, rejected or superseded; others are those of the commands.
set -eu
: "${RELEASE:?names the release}" "${ENVIRONMENT:?names the environment}"

here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
if [ -n "${AUTHORITY:-}" ]; then
  printf '%s\n' "$AUTHORITY" >"$here/ca.pem"
  export SLIPWAY_CA="$here/ca.pem"
fi
if [ -z "$(command -v slipway)" ]; then
  curl -fsSL --retry 3 -o "$here/slipway" "${PROGRAM:?says where the program is fetched from, which is not in PATH}"
  echo "${PROGRAM_SHA256:?says what the fetched program must be}  $here/slipway" | sha256sum -c -
  chmod +x "$here/slipway"
  PATH=$here:$PATH
fi
if [ -n "${RELEASE_FILE:-}" ]; then
  slipway release create -f "$RELEASE_FILE" --name "$RELEASE"
fi
if [ -n "${RESULTS:-}" ]; then
  # shellcheck disable=SC2086 # RESULTS is a pattern
  slipway test-results upload "$RELEASE" $RESULTS --suite "${SUITE:-unit}" --environment "$ENVIRONMENT"
fi
slipway promotion start "$RELEASE" --to "$ENVIRONMENT" --reason "${REASON:-}" --wait --timeout "${TIMEOUT:-1h}" --report "${REPORT:-}"
