#!/usr/bin/env bash
# The chart, a run of the whole pipeline to its end, and one phase of it again.
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$(dirname "$0")/common.sh"
need kubectl "https://kubernetes.io/docs/tasks/tools"
need curl "your system's packages"
need helm "https://helm.sh/docs/intro/install"

forwarding=
finish() {
    local code=$?
    if [ -n "$forwarding" ]; then kill "$forwarding" 2>/dev/null || true; fi
    if [ "$code" -ne 0 ]; then
        say "what is there"
        kube get pods --output wide || true
        kube get events --sort-by .lastTimestamp | tail -n 40 || true
        kube logs job/agent-forge-upload --tail 50 || true
    fi
    exit "$code"
}
trap finish EXIT

say "installing the chart"
helm --kube-context "$CONTEXT" upgrade --install agent-forge charts/agent-forge \
    --namespace "$NAMESPACE" --values charts/agent-forge/ci/kind.yaml --wait --timeout 15m

say "can a pod reach what a run needs?"
helm --kube-context "$CONTEXT" test agent-forge --namespace "$NAMESPACE" --logs --timeout 5m

say "opening http://localhost:$PORT"
kube port-forward svc/ml-pipeline-ui "$PORT:80" >/dev/null &
forwarding=$!
export KFP_HOST=http://localhost:$PORT KFP_NAMESPACE=$NAMESPACE
curl --silent --show-error --fail --output /dev/null --retry 30 --retry-connrefused --retry-delay 1 \
    "$KFP_HOST/apis/v2beta1/healthz"

name=kind-$(date +%Y%m%d-%H%M%S)
say "all eight phases: $name"
forge submit --cluster kind --profile "$PROFILE" --name "$name" --wait --timeout 10800

say "one phase again, on what that run has made"
forge submit --from training --to training --run "$name" \
    --cluster kind --profile "$PROFILE" --name "$name-training" --wait --timeout 3600

say "installing again changes nothing, and uninstalling leaves nothing"
helm --kube-context "$CONTEXT" upgrade --install agent-forge charts/agent-forge \
    --namespace "$NAMESPACE" --values charts/agent-forge/ci/kind.yaml --wait --timeout 15m
helm --kube-context "$CONTEXT" uninstall agent-forge --namespace "$NAMESPACE" --wait --timeout 5m
kinds=all,configmap,secret,pvc,role,rolebinding,networkpolicy
for _ in $(seq 30); do # pods take a moment to go
    left=$(kube get "$kinds" --selector app.kubernetes.io/instance=agent-forge --output name)
    if [ -z "$left" ]; then break; fi
    sleep 2
done
[ -z "$left" ] || {
    echo "left behind: $left" >&2
    exit 1
}
say "done"
