"""Azure AD Workload Identity for Kubernetes: tokens from Microsoft Entra without secrets.

The rooms and the direction of their imports: docs/architecture.md.
"""
