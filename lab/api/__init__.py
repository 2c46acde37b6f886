"""The lab's API server: what the real kubectl and the official client ask of one."""
