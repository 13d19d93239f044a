"""Single requests to the API server: documents go and come whole, failures are errors of our tree."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import httpx2
import msgspec

from azwi.cluster.retries import TRIES, delay_after, passes_by_itself
from azwi.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Mapping

FIELD_MANAGER: Final = "azwi-webhook"  # who owns the fields that we write, in managedFields
JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
STRATEGIC_PATCH: Final = "application/strategic-merge-patch+json"
_BAD_REQUEST: Final = 400


JsonObject = dict[str, Any]


class _Status(msgspec.Struct):
    message: str = ""


async def request(
    client: httpx2.AsyncClient,
    method: str,
    path: str,
    document: JsonObject | None = None,
    *,
    query: Mapping[str, str] | None = None,
    content_type: str = JSON,
    accept: str = JSON,
    tries: int = TRIES,
) -> bytes:
    """What the API server answers.

    Failures that pass by themselves are tried again, so a request must bear being made twice: a patch or a replacement
    with a resourceVersion does, and a creation whose name is given.

    Args:
        client: The connection.
        method: HTTP's.
        path: From the root, such as /api/v1/namespaces/shop/secrets/x.
        document: The body.
        query: Parameters.
        content_type: Of the body; of a patch it says which kind.
        accept: How the answer is wanted.
        tries: How often at most.

    Raises:
        ClusterError: It failed; `status` says how.
    """
    content = None if document is None else msgspec.json.encode(document)
    headers = {"Accept": accept} | ({"Content-Type": content_type} if content is not None else {})
    for failures in range(1, tries + 1):
        retry_after = None
        try:
            answer = await client.request(method, path, content=content, params=query, headers=headers)
            if answer.is_success:
                return answer.content
            retry_after = answer.headers.get("retry-after")
            problem = refused(answer)
        except httpx2.InvalidURL as failed:
            raise ClusterError(f"no request can be made of that: {failed}", status=_BAD_REQUEST) from failed
        except httpx2.HTTPError as failed:
            problem = ClusterError(f"the API server cannot be asked: {describe(failed)}")
            problem.__cause__ = failed
        if failures == tries or not passes_by_itself(problem.status):
            raise problem
        await asyncio.sleep(delay_after(failures, random.random(), retry_after))  # noqa: S311  # spread, no secret
    raise AssertionError


def segment(name: str) -> str:
    """A name as one segment of a path, whatever it holds: Pods name objects before anybody has checked the names.

    Raises:
        ClusterError: No object can have that name.
    """
    if name in {"", ".", ".."}:
        raise ClusterError(f"no object is named {name!r}", status=_BAD_REQUEST)
    return quote(name, safe="")


async def read_object(client: httpx2.AsyncClient, path: str, *, tries: int = TRIES) -> JsonObject:
    """One object, whole.

    Raises:
        ClusterError: It failed, or is no object.
    """
    return as_object(await request(client, "GET", path, tries=tries))


def as_object(content: bytes) -> JsonObject:
    """A document of the API server.

    Raises:
        ClusterError: It is no JSON object.
    """
    try:
        return msgspec.json.decode(content, type=JsonObject)
    except (msgspec.MsgspecError, ValueError) as problem:
        raise ClusterError("the API server answered with something that is no JSON object") from problem


def refused(answer: httpx2.Response) -> ClusterError:
    """What an answer says that is no success, in the server's own words where it has some."""
    try:
        message = msgspec.json.decode(answer.content, type=_Status).message
    except (msgspec.MsgspecError, ValueError):
        message = ""
    return ClusterError(message or f"the API server answered {answer.status_code}", status=answer.status_code)


def describe(problem: Exception) -> str:
    """An error in words; some of httpx2's have none."""
    return str(problem) or type(problem).__name__
