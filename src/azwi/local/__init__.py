"""The whole system on one machine: the real programs as processes, one container's program beside them.

Here stands what plays the cluster's part: sending the admission review, applying the patch, minting the token as the
kubelet would, starting the container's program with the environment it was given. It imports no program, it starts
them.
"""
