"""The lab's node: pods as network namespaces, their containers, probes, volumes, addresses, names."""
