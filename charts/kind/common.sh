# shellcheck shell=bash
# shellcheck disable=SC2034 # the scripts that source it use them
# What the scripts share: versions, names, and how they speak to the cluster. Sourced, not run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

CLUSTER=${KIND_CLUSTER:-agent-forge}
CONTEXT=kind-$CLUSTER
NAMESPACE=kubeflow
KFP_VERSION=2.17.0
PORT=${KFP_PORT:-8080}
PYTHON=${PYTHON:-.venv/bin/python}
PROFILE=${PROFILE:-micro}
# Images are loaded by their tags (kind cannot load digests), so a lock of pushed ones has no say here.
export AGENT_FORGE_LOCK='' AGENT_FORGE_REGISTRY=''

forge() { "$PYTHON" -m pipelines.cli "$@"; }
kube() { kubectl --context "$CONTEXT" --namespace "$NAMESPACE" "$@"; }

need() { # need PROGRAM WHERE-IT-IS-FROM
    command -v "$1" >/dev/null || {
        echo "$1 is missing: $2" >&2
        exit 1
    }
}

say() { printf '\n== %s\n' "$*"; }
