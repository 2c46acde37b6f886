"""The Helm chart (`tulle/`) that `tulle install` renders, and the Dockerfiles of the four images."""
