#!/usr/bin/env bash
# Our images into the cluster's node, as one archive: `kind load docker-image` fails on images of several platforms
# in Docker's containerd store, and one archive has the shared layers once.
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"
need kind "https://kind.sigs.k8s.io (0.31 or newer)"

names='from components.shared.image import image; from pipelines.phases import PHASES; print(*map(image, (*PHASES, "forge")), sep="\n")'
mapfile -t images < <("$PYTHON" -c "$names")
[ "${#images[@]}" -gt 1 ] || {
    echo "$PYTHON does not know the images' names: make setup" >&2
    exit 1
}
archive=$(mktemp "${TMPDIR:-/tmp}/agent-forge-images.XXXXXX")
trap 'rm -f "$archive"' EXIT

say "packing ${#images[@]} images"
if command -v docker >/dev/null && docker image inspect "${images[@]}" >/dev/null 2>&1; then
    platform=()
    if docker image save --help | grep -q -- --platform; then
        platform=(--platform "linux/$(docker version --format '{{.Server.Arch}}')")
    fi
    docker image save "${platform[@]}" --output "$archive" "${images[@]}"
elif command -v podman >/dev/null && podman image inspect "${images[@]}" >/dev/null 2>&1; then
    rm -f "$archive" # podman wants to make it itself
    podman image save --quiet --multi-image-archive --output "$archive" "${images[@]}"
else
    echo "neither docker nor podman has all of ${images[*]}: make images" >&2
    exit 1
fi

say "loading them"
kind load image-archive "$archive" --name "$CLUSTER"
say "the images are there; make kind-test is next"
