#!/usr/bin/env bash
# The cluster, away.
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"
need kind "https://kind.sigs.k8s.io (0.31 or newer)"
kind delete cluster --name "$CLUSTER"
