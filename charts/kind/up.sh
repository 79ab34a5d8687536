#!/usr/bin/env bash
# A kind cluster with Kubeflow Pipelines, by its own manifests at one version.
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"
need kind "https://kind.sigs.k8s.io (0.31 or newer)"
need kubectl "https://kubernetes.io/docs/tasks/tools"

if kind get clusters 2>/dev/null | grep -qx "$CLUSTER"; then
    say "cluster $CLUSTER is there"
else
    say "making cluster $CLUSTER"
    kind create cluster --name "$CLUSTER" --config charts/kind/cluster.yaml --wait 5m
fi

say "Kubeflow Pipelines $KFP_VERSION"
manifests=https://github.com/kubeflow/pipelines/manifests/kustomize
kubectl --context "$CONTEXT" apply -k "$manifests/cluster-scoped-resources?ref=$KFP_VERSION"
kubectl --context "$CONTEXT" wait crd/applications.app.k8s.io --for condition=established --timeout=60s
kubectl --context "$CONTEXT" apply -k "$manifests/env/platform-agnostic?ref=$KFP_VERSION"
kube wait deployment --all --for condition=Available --timeout=20m
say "Kubeflow Pipelines is ready; make kind-load is next"
