"""The Kubernetes API and its documents seen by a client: manifests now; connection, leases and events to come.

Nothing here decides about identities or Pods; documents that must survive stay dictionaries.
"""
