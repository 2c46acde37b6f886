"""The lab's controllers: deployments, replica sets, jobs, endpoint slices, namespaces, garbage."""
