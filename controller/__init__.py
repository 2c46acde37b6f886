"""The controller: discovery, reports, and the REST API that answers for them."""
