# The same images by BuildKit. `docker buildx bake --file images/docker-bake.hcl --print` shows what is built.

variable "REGISTRY" {
  default = "localhost/agent-forge"
}

variable "VERSION" {
  default = "0.1.0"
}

variable "VARIANT" { # which of both is built where nothing is named, and carries the plain tag; in a release that is cuda
  default = "cuda"
}

variable "RELEASE" { # all platforms, with provenance and SBOM: to be pushed, no local store takes it
  default = false
}

variable "PYTHON_IMAGE" {
  default = "docker.io/library/python:3.11-slim-bookworm"
}

variable "TORCH_INDEX" {
  default = "https://download.pytorch.org/whl/cpu"
}

variable "PHASES" {
  default = ["cognate", "evomerge", "quietstar", "bitnet", "training", "baking", "adas", "compression"]
}

variable "VARIANTS" {
  default = ["cuda", "cpu"]
}

function "tags" {
  params = [name, variant]
  result = variant == (RELEASE ? "cuda" : VARIANT) ? ["${REGISTRY}/${name}:${VERSION}", "${REGISTRY}/${name}:${VERSION}-${variant}"] : ["${REGISTRY}/${name}:${VERSION}-${variant}"]
}

group "default" {
  targets = concat(["forge"], [for phase in PHASES : "${phase}-${VARIANT}"])
}

group "control" { # they carry the built page: make dashboard first
  targets = ["control", "controller-${VARIANT}"]
}

group "all" {
  targets = concat(["forge"], [for phase in PHASES : "${phase}-cuda"], [for phase in PHASES : "${phase}-cpu"])
}

target "common" {
  context   = "."
  platforms = RELEASE ? ["linux/amd64", "linux/arm64"] : null
  attest    = RELEASE ? ["type=provenance,mode=max", "type=sbom"] : ["type=provenance,disabled=true"]
  args = {
    PYTHON_IMAGE      = PYTHON_IMAGE
    TORCH_INDEX       = TORCH_INDEX
    VERSION           = VERSION
    SOURCE_DATE_EPOCH = "0"
  }
}

target "base" {
  inherits   = ["common"]
  dockerfile = "images/base/Dockerfile"
}

target "runtime" {
  name       = "runtime-${variant}"
  matrix     = { variant = VARIANTS }
  inherits   = ["common"]
  dockerfile = "images/runtime/Dockerfile"
  contexts   = { base = "target:base" }
  args       = { VARIANT = variant }
}

target "phase" {
  name       = "${phase}-${variant}"
  matrix     = { phase = PHASES, variant = VARIANTS }
  inherits   = ["common"]
  dockerfile = "images/phase/Dockerfile"
  contexts   = { runtime = "target:runtime-${variant}" }
  args       = { PHASE = phase }
  tags       = tags(phase, variant)
}

target "forge" {
  inherits   = ["common"]
  dockerfile = "images/forge/Dockerfile"
  contexts   = { base = "target:base" }
  tags       = ["${REGISTRY}/forge:${VERSION}"]
}

target "control" {
  inherits   = ["common"]
  dockerfile = "images/control/Dockerfile"
  contexts   = { base = "target:base" }
  tags       = ["${REGISTRY}/control:${VERSION}"]
}

target "controller" {
  name       = "controller-${variant}"
  matrix     = { variant = VARIANTS }
  inherits   = ["common"]
  dockerfile = "images/control/Dockerfile"
  contexts   = { base = "target:runtime-${variant}" }
  tags       = tags("controller", variant)
}
