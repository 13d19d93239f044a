"""What cannot be right is told, and never taken for done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from identity_lab import Lab

NAME = "--aad-application-name=orders"
NO_ROLE = "--skip-phases=role-assignment"


def test_an_issuer_that_graph_refuses_is_told(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """Also on an application without credentials, where nothing else can be in the way: never "unchanged"."""
    assert 1 == lab.run("sa", "create", *lab.account(issuer="not a url"), NAME, NO_ROLE)
    assert "InvalidFederatedIdentityCredentialValue" in capsys.readouterr().err
    assert [] == lab.application_credentials("orders")
