"""Microsoft Entra seen by a client. Empty on purpose: the proxy imports single modules, so the rest stays out of Pods."""
