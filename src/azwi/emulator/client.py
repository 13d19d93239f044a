"""The emulator from outside: a client for its verbs, and one that runs beside a test in a thread.

```python
with emulate(Path("state.yaml"), folder) as emulator:
    emulator.throttle(count=2, retry_after=1)
    …  # what is tested asks emulator.authority for tokens
    assert [entry["outcome"] for entry in emulator.journal()] == ["AADSTS90055", "AADSTS90055", "granted"]
```
"""

from __future__ import annotations

import asyncio
import queue
import ssl
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

import httpx2
import msgspec

from azwi.emulator.server import ADDRESSES_NAME, EmulatorSettings, serving
from azwi.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from azwi.emulator.server import Addresses
    from azwi.emulator.trouble import Service

START_DEADLINE: Final = 15.0  # seconds
_TIMEOUT: Final = 10.0  # seconds for a request

JsonObject = dict[str, Any]


class EmulatorClient:
    """A running emulator, for tests: what it is told and what it was asked.

    Args:
        addresses: The content of its `emulator.json`.
    """

    def __init__(self, addresses: JsonObject) -> None:
        self.authority: str = addresses["authority"]
        self.issuer: str = addresses["issuer"]
        self.ca_file: str = addresses["caFile"]
        self.imds: str = addresses.get("imds", "")
        self.graph: str = addresses.get("graph", "")
        self.resource_manager: str = addresses.get("resourceManager", "")
        self.tenants: list[str] = addresses.get("tenants", [])
        self.pid: int = addresses.get("pid", 0)
        context = ssl.create_default_context(cafile=self.ca_file)
        self._http = httpx2.Client(verify=context, base_url=self.authority, trust_env=False, timeout=_TIMEOUT)

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def is_running(self) -> bool:
        """Whether somebody with the emulator's certificate answers."""
        try:
            return self._http.get("emulator").is_success
        except (httpx2.HTTPError, httpx2.InvalidURL):
            return False

    # --- Verbs ------------------------------------------------------------------------------------------

    def throttle(self, count: int = 1, retry_after: int = 1, service: Service = "entra") -> None:
        """Answer the next `count` requests of a service with 429 and Retry-After."""
        self._post("throttle", count=count, retryAfter=retry_after, service=service)

    def fail(
        self, count: int = 1, *, code: int = 0, status: int = 0, service: Service = "entra", **how: object
    ) -> None:
        """Answer the next `count` requests of a service with an AADSTS code, or with a bare HTTP status.

        Of Graph and Resource Manager also: `error`, the code; `method` and `match`, which requests; `done`, whether
        they are carried out all the same.
        """
        self._post("fail", count=count, code=code, status=status, service=service, **how)

    def delay_replication(self, seconds: float) -> None:
        """Let new applications, principals and identities be unknown for so long to what depends on them."""
        self._post("replication", seconds=seconds)

    def page(self, size: int) -> None:
        """Give lists of Graph and Resource Manager in pages of so many items; 0 is their usual size."""
        self._post("paging", size=size)

    def slow(self, seconds: float, service: Service = "entra") -> None:
        """Take so long for every request of a service; 0 ends it."""
        self._post("slow", seconds=seconds, service=service)

    def skew_clock(self, seconds: float) -> None:
        """Let the emulator's clock run ahead, or behind when negative."""
        self._post("clock", skew=seconds)

    def rotate_keys(self, of: Literal["entra", "cluster"], *, forget: bool = False) -> None:
        """Sign with a new key; `forget` also withdraws the old ones."""
        self._post("rotate-keys", of=of, forget=forget)

    def delay_propagation(self, seconds: float) -> None:
        """Know federated credentials that the state gets from now on only after so long."""
        self._post("propagation", seconds=seconds)

    def reset(self) -> None:
        """Do nothing wrong any more, and forget what was asked."""
        self._post("reset")

    def journal(self, service: str = "") -> list[JsonObject]:
        """What it was asked, oldest first; of one service (`entra`, `graph`, `arm`, `cluster`, `imds`) or of all."""
        requests = self._http.get("emulator/journal").raise_for_status().json()["requests"]
        return [entry for entry in requests if service in {"", entry["service"]}]

    def service_account_token(self, namespace: str, name: str, audience: str, expiration: int = 3600) -> str:
        """A token of the emulated cluster, as a kubelet gets it."""
        spec = {"audiences": [audience], "expirationSeconds": expiration}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        answer = self._http.post(self.issuer + path, json={"spec": spec}).raise_for_status()
        return str(answer.json()["status"]["token"])

    def _post(self, verb: str, **body: object) -> None:
        answer = self._http.post(f"emulator/{verb}", json=body)
        if not answer.is_success:
            raise LocalError(f"the emulator refused {verb}: {answer.json()['error_description']}")


class _Addresses(msgspec.Struct, rename="camel"):
    authority: str
    issuer: str
    ca_file: str
    imds: str = ""
    graph: str = ""
    resource_manager: str = ""
    tenants: list[str] = []
    pid: int = 0


def read_addresses(folder: Path) -> JsonObject:
    """What the emulator that runs with this folder has written there.

    Raises:
        LocalError: None runs there, or the file is not the emulator's.
    """
    path = folder / ADDRESSES_NAME
    try:
        addresses = msgspec.json.decode(path.read_bytes(), type=_Addresses)
    except OSError as problem:
        raise LocalError(
            f"no emulator runs in {folder}: {path.name}: {problem.strerror}",
            hint=f"azwi emulator --state FILE --dir {folder} starts one",
        ) from problem
    except ValueError as problem:  # msgspec's errors are ValueErrors
        raise LocalError(f"{path} is no file of the emulator's", hint="name the folder that --dir named") from problem
    found: JsonObject = msgspec.to_builtins(addresses)
    return found


@contextmanager
def emulate(
    state: Path, folder: Path, imds_port: int | None = None, trust: Path | None = None
) -> Iterator[EmulatorClient]:
    """An emulator in a thread of this process, gone after the block.

    Args:
        state: The YAML state file.
        folder: For its CA and addresses.
        imds_port: For the metadata service; 0 takes a free port.
        trust: PEM certificates to trust when issuers are fetched.

    Raises:
        ManifestError: The state cannot be used.
        LocalError: The port or folder cannot be used.
    """
    settings = EmulatorSettings(state, folder, imds_port=imds_port, trust=trust)
    stop: asyncio.Event = asyncio.Event()
    started: queue.Queue[tuple[Addresses, asyncio.AbstractEventLoop] | BaseException] = queue.Queue()

    async def serve() -> None:
        try:
            async with serving(settings) as addresses:
                started.put((addresses, asyncio.get_running_loop()))
                await stop.wait()
        except BaseException as problem:  # noqa: BLE001  # raised again in the other thread
            started.put(problem)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="azwi-emulator")
    thread.start()
    outcome = started.get(timeout=START_DEADLINE)
    if isinstance(outcome, BaseException):
        thread.join()
        raise outcome
    _, loop = outcome
    client = EmulatorClient(read_addresses(folder))
    try:
        yield client
    finally:
        client.close()
        loop.call_soon_threadsafe(stop.set)
        thread.join()
