"""The init container: plans the capture rules, applies them, verifies them."""
