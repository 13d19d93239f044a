"""What holds for every Pod: nothing is lost, a second pass changes nothing, no request goes without an answer."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pods import PLAIN, SETTINGS, JsonObject, pods, review

from azwi.webhook.mutation import answer_review
from vectors import Known, apply, authors_part, containers, preserved

MODES = st.sampled_from([SETTINGS, PLAIN])


def let_in(pod: JsonObject, mode: Any) -> JsonObject | None:  # noqa: ANN401  # settings
    """The Pod afterwards, None where it is refused."""
    answered = json.loads(review(pod, settings=mode).body)
    return apply(pod, answered) if answered["response"]["allowed"] else None


def duplicates(names: list[str]) -> set[str]:
    """Names that stand more than once."""
    return {name for name, count in Counter(names).items() if count > 1}


@given(pods(), MODES)
def test_nothing_is_lost(pod: JsonObject, mode: Any) -> None:  # noqa: ANN401
    """Whatever stood in the Pod, known or not, at any level, stands in it afterwards, in the same order."""
    after = let_in(pod, mode)

    assert after is None or preserved(authors_part(pod), after)


@given(pods(), MODES)
def test_a_second_pass_changes_nothing(pod: JsonObject, mode: Any) -> None:  # noqa: ANN401
    """The answer about a Pod that has been injected has no patch."""
    after = let_in(pod, mode)

    assert after is None or "patch" not in json.loads(review(after, settings=mode).body)["response"]


@given(pods(), MODES, st.sampled_from(["name", "generateName"]))
def test_after_a_change_by_another_webhook_the_pod_is_valid(pod: JsonObject, mode: Any, member: str) -> None:  # noqa: ANN401
    """Renamed, with a mode on the volume and one more container in front: nothing of ours comes twice."""
    once = let_in(pod, mode)
    if once is None:
        return
    once["metadata"][member] = "other"
    for volume in once["spec"].get("volumes") or ():
        if "projected" in volume:
            volume["projected"]["defaultMode"] = 420
    once["spec"].setdefault("containers", []).insert(0, {"name": "late"})

    twice = let_in(once, mode)

    assert twice is not None
    assert preserved(authors_part(once), twice)
    assert duplicates([volume["name"] for volume in twice["spec"]["volumes"]]) == set()
    for _, container in containers(twice):
        paths = [mount["mountPath"].rstrip("/") for mount in container.get("volumeMounts") or ()]
        assert duplicates(paths) == set()
        assert duplicates([entry["name"] for entry in container.get("env") or ()]) == set()
    assert duplicates([container["name"] for _, container in containers(twice)]) == set()


@given(pods(), MODES)
def test_warnings_are_short_lines(pod: JsonObject, mode: Any) -> None:  # noqa: ANN401
    """A warning is one printable line of at most 120 characters."""
    for warning in json.loads(review(pod, settings=mode).body)["response"].get("warnings", []):
        assert 0 < len(warning) <= 120
        assert warning.isprintable()


@given(
    st.binary(max_size=60)
    | st.recursive(st.none() | st.text(max_size=4), st.lists).map(lambda x: json.dumps(x).encode())
)
def test_any_bytes_get_an_answer(body: bytes) -> None:
    """Whatever is posted, the answer is one that the API server understands, and nothing is let in."""
    answered = json.loads(answer_review(body, Known(), SETTINGS).body)

    assert not answered["response"]["allowed"]
    assert answered["response"]["status"]["message"]


@given(pods(), st.data())
def test_wrong_types_get_an_answer(pod: JsonObject, data: st.DataObject) -> None:
    """A Pod in which any value is replaced by one of another type is let in or refused, and never fails."""
    places = [pod]
    for place in places:
        places += [entry for entry in place.values() if isinstance(entry, dict)]
        places += [
            entry for value in place.values() if isinstance(value, list) for entry in value if isinstance(entry, dict)
        ]
    place = data.draw(st.sampled_from([place for place in places if place]))
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(
        st.sampled_from([None, 0, 1.5, True, "", [], {}, [None], [[]]])
    )

    assert "allowed" in json.loads(review(pod).body)["response"]
