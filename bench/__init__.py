"""Side-by-side benchmarks: the sidecar beside Envoy and HAProxy, in one run on one machine."""
