"""Whether the redirect works, seen from inside: a connection to the metadata address must end at the proxy's port."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

from azwi.errors import RedirectError

if TYPE_CHECKING:
    from azwi.proxy_init.rules import RedirectPlan

DEADLINE: Final = 5.0  # seconds
_HERE: Final = 1.0  # seconds in which a connection that was made on this machine has arrived
_LOOPBACK: Final = "127.0.0.1"


def verify_redirect(plan: RedirectPlan) -> None:
    """Listen where the proxy will, connect as the application will, and expect to meet oneself.

    Raises:
        RedirectError: Somebody else listens there, or somebody else answers, or nobody.
    """
    target = f"{plan.metadata_address}:{plan.metadata_port}"
    nonce = os.urandom(16)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((_LOOPBACK, plan.proxy_port))
            listener.listen(1)
        except OSError as problem:
            raise RedirectError(
                f"cannot listen on the proxy's port {_LOOPBACK}:{plan.proxy_port}: {problem.strerror}",
                hint="another container of the Pod uses it, or the Pod is on the host's network; "
                "choose another with azure.workload.identity/proxy-sidecar-port",
            ) from problem
        try:
            _meet(listener, plan, nonce)
        except OSError as problem:
            raise RedirectError(
                f"the redirect is set and does not work: {target} does not lead to port {plan.proxy_port}: "
                f"{problem.strerror or 'no answer within ' + format(DEADLINE, 'g') + ' s'}",
                hint="something else in this network namespace takes the traffic first, such as another sidecar's "
                "redirect or a network plugin that skips iptables; proxy-mode: environment needs no redirect",
            ) from problem


def _meet(listener: socket.socket, plan: RedirectPlan, nonce: bytes) -> None:
    """Connect, and hear the own nonce; OSError where that fails."""
    listener.settimeout(DEADLINE)
    with socket.create_connection((plan.metadata_address, plan.metadata_port), DEADLINE) as client:
        if not _reaches(listener, client):
            raise OSError(0, "somebody else answers there")
        server, _ = listener.accept()
        with server:
            server.sendall(nonce)
            if client.recv(len(nonce), socket.MSG_WAITALL) != nonce:
                raise OSError(0, "somebody else answers there")


def _reaches(listener: socket.socket, client: socket.socket) -> bool:
    """Whether a connection waits at the listener; one on loopback is there as soon as the client has it."""
    import select  # noqa: PLC0415

    readable, _, _ = select.select([listener, client], [], [], _HERE)
    return listener in readable
