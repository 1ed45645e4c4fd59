"""Several replicas, each a process of its own, that share the turns of a token."""
