#!/bin/sh
# Install one program as its image has it, for the Dockerfile: manifests/install.sh proxy. /opt/build is the environment
# that builds (manifests/locks/build.txt), /opt/tulle the one that becomes the image; another root comes by TULLE_ROOT.
#
# All that pip takes from an index is known by its hash (manifests/locks). Wheels are made in the first environment, so
# that no builder is in the image and no build asks an index for more. sbom.cdx.json tells what came of it.
set -eu
program=$1
root=${TULLE_ROOT:-/opt}
pip="$root/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir $root/wheels"
$pip --require-hashes --requirement "manifests/locks/$program.txt"
if [ "$program" = proxy ]; then export TULLE_COMPILE=1; fi
$pip --no-index .
# By name and version: by path each would be recorded as a file of this build.
wheels=$(cd "$root/wheels" && ls | sed 's/^\([^-]*\)-\([^-]*\)-.*/\1==\2/')
"$root/tulle/bin/pip" install --no-deps --no-index --find-links "$root/wheels" $wheels
# The scripts of the other programs would have nothing to start.
find "$root/tulle/bin" -name 'tulle*' ! -name "tulle-$program" -delete
"$root/build/bin/cyclonedx-py" environment --output-reproducible --output-format JSON \
    --output-file "$root/tulle/sbom.cdx.json" "$root/tulle/bin/python"
rm -rf "$root/wheels"
