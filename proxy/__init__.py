"""The sidecar: a trio program with a callback pump inside."""
