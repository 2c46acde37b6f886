"""A mesh on one Linux machine: an embedded Kubernetes API server and a node whose pods are network namespaces."""
