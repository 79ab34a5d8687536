#!/usr/bin/env bash
# Builds the images with what this machine has: docker buildx, podman or buildah.
#
#   images/build.sh [NAME…]        all phases and forge, or those named
#   images/build.sh control controller     the control plane (make dashboard first: they carry the page)
#
# VARIANT=cuda|cpu  which torch; one of both carries the plain tag        (cuda)
# REGISTRY=PREFIX   what names begin with                                 (localhost/agent-forge)
# BUILDER=PROGRAM   buildx, podman or buildah                             (the first there is)
# PYTHON_IMAGE, TORCH_INDEX   passed on to the Dockerfiles where set
# BUILD_FLAGS       more flags for podman or buildah, such as --network host
set -euo pipefail
cd "$(dirname "$0")/.."

variant=${VARIANT:-cuda}
registry=${REGISTRY:-localhost/agent-forge}
version=$(sed -n 's/^VERSION = "\(.*\)"$/\1/p' components/shared/runtime/code.py)
mapfile -t phases < <(for file in components/*/component.py; do basename "$(dirname "$file")"; done)
names=("$@")
[ ${#names[@]} -gt 0 ] || names=("${phases[@]}" forge)
for name in "${names[@]}"; do
  [[ $name != *" "* && " ${phases[*]} forge control controller " == *" $name "* ]] || { echo "build.sh: there is no image '$name'; there are: ${phases[*]} forge control controller" >&2; exit 2; }
done
page=pipelines/control/dashboard/dist/index.html
if [[ " ${names[*]} " == *" control"* && ! -f $page ]]; then
  echo "build.sh: the page is not built ($page). What to do: make dashboard." >&2
  exit 2
fi

builder() { # the first program of this machine that builds images
  if docker buildx version >/dev/null 2>&1 && docker info >/dev/null 2>&1; then echo buildx
  elif command -v podman >/dev/null; then echo podman
  elif command -v buildah >/dev/null; then echo buildah
  else
    echo "build.sh: neither docker with buildx nor podman nor buildah is here. What to do: install one of them." >&2
    return 1
  fi
}
builder=${BUILDER:-$(builder)}

bake() { # BuildKit makes what the bake file says, for this machine
  local targets=()
  for name in "${names[@]}"; do
    case $name in
      forge | control) targets+=("$name") ;;
      *) targets+=("$name-$variant") ;;
    esac
  done
  REGISTRY=$registry VERSION=$version VARIANT=$variant docker buildx bake --file images/docker-bake.hcl --load "${targets[@]}"
}

build() { # NAME DOCKERFILE [FLAG…]: podman and buildah share their flags
  local name=$1 file=$2 flags=()
  shift 2
  for argument in PYTHON_IMAGE TORCH_INDEX; do
    [ -z "${!argument:-}" ] || flags+=(--build-arg "$argument=${!argument}")
  done
  # A fixed time: the same files give the same digest. OCI's own format, so that both programs write the same.
  # shellcheck disable=SC2086 # BUILD_FLAGS are several words
  "$builder" build --layers --timestamp 0 --format oci ${BUILD_FLAGS:-} "${flags[@]}" --build-arg "VERSION=$version" \
    "$@" --file "images/$file/Dockerfile" --tag "$registry/$name:$version" .
}

local_image() { # NAME: a build context that is an image of this machine
  echo "$1=container-image://$registry/$2:$version"
}

one_by_one() {
  build base base
  if printf '%s\n' "${names[@]}" | grep -qvxE 'forge|control'; then
    build "runtime-$variant" runtime --build-arg "VARIANT=$variant" --build-context "$(local_image base base)"
  fi
  for name in "${names[@]}"; do
    case $name in
      forge | control) build "$name" "$name" --build-context "$(local_image base base)" ;;
      controller) build controller control --build-context "$(local_image base "runtime-$variant")" ;;
      *) build "$name" phase --build-arg "PHASE=$name" --build-context "$(local_image runtime "runtime-$variant")" ;;
    esac
  done
}

contents() { # NAME: what an image holds, as CycloneDX, where syft is installed
  local image=$registry/$1:$version place container='' ended=0
  mkdir -p images/sbom
  local result=(--source-name "agent-forge/$1" --source-version "$version" --output "cyclonedx-json=images/sbom/$1.json" --quiet)
  case $builder in
    buildx)
      syft scan "docker:$image" "${result[@]}"
      ;;
    podman)
      place=$(podman image mount "$image")
      syft scan "dir:$place" "${result[@]}" || ended=$?
      podman image unmount "$image" >/dev/null
      ;;
    buildah)
      container=$(buildah from --pull=never "$image")
      place=$(buildah mount "$container")
      syft scan "dir:$place" "${result[@]}" || ended=$?
      buildah rm "$container" >/dev/null
      ;;
  esac
  return "$ended"
}

case $builder in
  buildx) bake ;;
  podman | buildah) one_by_one ;;
  *) echo "build.sh: BUILDER is '$builder', and has to be buildx, podman or buildah" >&2; exit 2 ;;
esac
if command -v syft >/dev/null; then
  for name in "${names[@]}"; do contents "$name"; done
fi
