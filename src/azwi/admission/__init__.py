"""What a Pod must get: the rules of injection, pure, shared by the webhook, `azwi inject` and the doctor.

Here lives everything that decides over a Pod: reading it, planning, the two containers, the patch, the review's
bytes. No socket, file, clock, environment or thread; nothing of HTTP or of the Kubernetes API client.
"""
