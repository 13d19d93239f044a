"""Microsoft Entra seen by a client. The proxy imports single modules, so what it does not use stays out of Pods."""
