#!/usr/bin/env bash
# The whole mesh on this machine, with the commands that you would type on a cluster.
# KEEP=1 leaves the lab running at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"
export LAB=${LAB:-demo}

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' off=$'\e[0m'; else bold='' dim='' off=''; fi
step() { printf '\n%s%s%s\n' "$bold" "$*" "$off"; }
run() { printf '%s$ %s%s\n' "$dim" "$*" "$off"; eval "$*"; }

leave() {
  status=$?
  trap - EXIT INT TERM
  if [ $status -eq 0 ] && [ -n "${KEEP:-}" ]; then
    step "It keeps running. Go on by hand:"
    cat <<EOF
  export PATH=$PWD/.venv/bin:\$PATH KUBECONFIG=$KUBECONFIG
  kubectl get pods -A
  tulle stat deploy -n vote --from deploy/web
  kubectl -n vote port-forward service/web 8080:80      # then open http://localhost:8080
  tulle lab down --name $LAB                             # when you are done
EOF
  else
    step "Taking the lab down"
    tulle lab down --name "$LAB"
    if [ $status -eq 0 ]; then
      echo; echo "That was all of it. 'make demo KEEP=1' leaves it running, to go on by hand."
    fi
  fi
  exit $status
}
trap leave EXIT
trap 'exit 130' INT TERM

step "1. A Kubernetes of one machine: API server, controllers, a node whose pods are network namespaces"
run "tulle lab up --name $LAB"
KUBECONFIG=$(tulle lab kubeconfig --name "$LAB")
export KUBECONFIG

step "2. The mesh"
run "tulle install | kubectl apply -f - | tail -n 4"
run "tulle check --wait 60"

step "3. An application that knows nothing of it"
run "kubectl create namespace vote --save-config"
run "kubectl label namespace vote tulle.mesh/inject=enabled"
run "kubectl apply -f samples/vote.yaml"
for deployment in catalog tally web traffic; do
  run "kubectl -n vote rollout status deployment/$deployment --timeout=90s"
done
run "kubectl -n vote get pods"

step "4. What the mesh saw (a vote for Moth Holes always fails in 'tally', on purpose)"
printf 'Waiting for the first reports of the sidecars (every 10 s) ...\n'
seen() { # requests of web, catalog and tally, and a vote that was lost between web and tally
  local all tally
  all=$(tulle stat deploy -n vote -t 30s -o json 2>/dev/null) || return 1
  tally=$(tulle stat deploy/tally -n vote -t 30s --from deploy/web -o json 2>/dev/null) || return 1
  [ "$(grep -cE '"rps": [0-9]' <<<"$all")" -ge 3 ] && grep -q '"success_rate": 0' <<<"$tally"
}
for _ in $(seq 40); do
  seen && break
  sleep 0.5
done
run "tulle stat deploy -n vote -t 30s"
run "tulle stat deploy -n vote -t 30s --from deploy/web"
tally=$(kubectl -n vote get pods -l app=tally -o name)
metrics="/api/v1/namespaces/vote/pods/${tally#pod/}:4191/proxy/metrics"
run "kubectl get --raw $metrics | sed -nE 's/^response_total.*(grpc_status=\"[0-9]+\").* ([0-9]+)\$/\1 \2/p'"
run "kubectl get --raw '/api/v1/namespaces/tulle/services/tulle-controller:8085/proxy/api/v1/namespaces/vote/deployments/web/stat?window=30s'"
echo
