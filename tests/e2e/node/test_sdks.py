"""The official SDKs in Pods: the projected token by the variables, the redirect without them, and environment mode."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from languages import BUILDERS, SLOW
from orders import AUDIENCE, ENVIRONMENT, PROXY, pod, template, verify

from entra import CLIENT

if TYPE_CHECKING:
    from world import World

SLEEP = ["-c", "import time; time.sleep(100000)"]
SCOPE = f"{AUDIENCE}/.default"


LANGUAGES = sorted(BUILDERS if os.environ.get("AZWI_E2E_SDKS") == "all" else set(BUILDERS) - SLOW)


@pytest.fixture(scope="module", params=LANGUAGES)
def program(
    request: pytest.FixtureRequest, world: World, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, list[str]]:
    """A language and its image with the command in it; skipped where the language's tools are not installed."""
    builder, tools = BUILDERS[request.param]
    if lacking := [tool for tool in tools if not shutil.which(tool)]:
        pytest.skip(f"{', '.join(lacking)} not installed")
    return request.param, builder(world, tmp_path_factory.mktemp(request.param))


def start(world: World, name: str, image: str, annotations: dict[str, str]) -> None:
    """A Pod with two containers of the image: `with` our variables and `without` them."""
    skip = {"azure.workload.identity/skip-containers": "without"}
    containers = [{"name": of, "image": image, "args": SLEEP} for of in ("with", "without")]
    world.node.apply(pod(name, "shop", template(annotations | skip, *containers)))
    world.node.kubectl("-n", "shop", "wait", f"pod/{name}", "--for=condition=Ready", "--timeout=55s")


def ask(world: World, where: tuple[str, str], command: list[str], **order: Any) -> dict[str, Any]:  # noqa: ANN401
    """One order to the program in a container, and its answer, whose token is verified."""
    text = json.dumps({"scope": SCOPE, "retries": 0, "discovery": True} | order) + "\n"
    run = world.node.kubectl("-n", "shop", "exec", "-i", where[0], "-c", where[1], "--", *command, text=text)
    answer: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    assert "token" in answer, answer
    return verify(world, answer["token"])


def exchanges(world: World, name: str) -> int:
    """How many tokens the proxy of a Pod has got, by its own log."""
    log = world.node.kubectl("-n", "shop", "logs", name, "-c", "azwi-proxy").stdout
    return sum('"token obtained"' in line for line in log.splitlines())


def test_projected_token_and_redirect(program: tuple[str, list[str]], world: World) -> None:
    """WorkloadIdentityCredential does not need the proxy; ManagedIdentityCredential comes to it, unknowing."""
    language, (image, *command) = program
    name = f"sdk-{language}"
    start(world, name, image, PROXY)
    ask(world, (name, "with"), command)
    assert 0 == exchanges(world, name)
    ask(world, (name, "without"), command, managed=True, clientId=CLIENT)
    assert 1 == exchanges(world, name)


def test_environment_mode(program: tuple[str, list[str]], world: World) -> None:
    """Without any redirect, by AZURE_POD_IDENTITY_AUTHORITY_HOST, where the SDK reads it."""
    language, (image, *command) = program
    if language in {"go", "rust"}:
        pytest.skip(f"the SDK for {language} does not read that variable")
    name = f"environment-{language}"
    start(world, name, image, ENVIRONMENT)
    # With that variable the SDK would take the projected token itself.
    run = [
        "python3",
        "-c",
        f"import os; os.environ.pop('AZURE_FEDERATED_TOKEN_FILE', 0); os.execvp({command[0]!r}, {command!r})",
    ]
    ask(world, (name, "with"), run, managed=True, clientId=CLIENT)
    assert 1 == exchanges(world, name)
