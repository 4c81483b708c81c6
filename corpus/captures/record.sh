#!/bin/sh
# Records the captures of this folder anew, with the verdicts they have now. Read the difference
# of the .expected files before you keep it.
set -e
cd "$(dirname "$0")/../.."
FENCEPOST_RECORD=1 cargo test --test corpus
git diff --stat corpus/captures
