"""The `tulle` command."""
