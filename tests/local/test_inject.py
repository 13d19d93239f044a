"""`azwi inject`: manifests of all kinds come out with the injection and nothing else changed."""

from __future__ import annotations

import difflib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import vectors
from azwi.cluster.manifests import load_documents
from azwi.errors import ManifestError
from azwi.local.inject import Output, inject_manifests, read_accounts
from azwi.webhook.settings import read_settings

AZWI = Path(sys.executable).with_name("azwi")
FOLDER = Path(__file__).parent / "manifests"
MANIFESTS = sorted(FOLDER.glob("[0-9]*.yaml"))
ACCOUNTS = FOLDER / "accounts.yaml"
TENANT = "11111111-1111-1111-1111-111111111111"
# What is written in braces grows inside its braces, so that line is another one afterwards.
GROWING_BRACES = {"06-job": 1, "20-typed-list": 1}
REVIEWED = [
    case
    for case in vectors.load_all()
    if case.data.get("review") and ((case.data["review"].get("request") or {}).get("object") or {}).get("kind") == "Pod"
]


def inject(path: Path | str, *flags: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command on a file, or on text at its standard input."""
    return subprocess.run(
        [AZWI, "inject", f"-f{path}", f"--service-accounts={ACCOUNTS}", f"--tenant-id={TENANT}", *flags],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )


def inject_text(text: str, where: str = "input.yaml") -> str:
    """The same in this process, for what has neither warnings nor refusals to be told."""
    settings = read_settings([], {"AZURE_TENANT_ID": TENANT}, lambda path: Path(path).read_bytes()).admission
    result = inject_manifests(text, where, read_accounts([(ACCOUNTS.read_bytes(), "accounts")]), settings, Output.YAML)
    assert result.refusals == []
    return result.text


def pod_specs(document: Any) -> list[dict[str, Any]]:  # noqa: ANN401  # any YAML
    """All Pod specs in a document, wherever they are."""
    if isinstance(document, list):
        return [spec for entry in document for spec in pod_specs(entry)]
    if not isinstance(document, dict):
        return []
    found = [document] if isinstance(document.get("containers"), list) else []
    return found + [spec for value in document.values() for spec in pod_specs(value)]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_only_the_injection_is_added(path: Path) -> None:
    """Every line of the file stands in the output, in the same order: comments, quotes, order and unknown fields."""
    text = inject_text(path.read_text(), path.name)

    lines = difflib.ndiff(path.read_text().splitlines(), text.splitlines())
    gone = [line for line in lines if line.startswith("- ")]
    assert len(gone) == GROWING_BRACES.get(path.stem, 0), gone
    before, after = (list(yaml.load_all(one, Loader=yaml.CSafeLoader)) for one in (path.read_text(), text))
    assert vectors.preserved(before, after)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_what_comes_out_needs_nothing_more(path: Path) -> None:
    """The output, sent through again, stays as it is, letter by letter."""
    once = inject_text(path.read_text())

    assert inject_text(once) == once


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_labelled_pods_read_a_token_afterwards(path: Path) -> None:
    """Each labelled Pod or template has the token's volume; the one that is not labelled has not."""
    specs = pod_specs(list(yaml.safe_load_all(inject_text(path.read_text()))))

    injected = ["azure-workload-identity-reserved-token" in json.dumps(spec) for spec in specs]

    assert injected == ([False, True] if path.stem.startswith("09") else [True] * len(specs))


@pytest.mark.parametrize("case", REVIEWED, ids=lambda case: case.id)
def test_inject_gives_what_the_webhook_gives(case: vectors.Vector) -> None:
    """Over the recorded reviews: the same Pod, the same warnings, or the same refusal."""
    request = case.data["review"]["request"]
    namespace = request.get("namespace", "")
    metadata = case.pod.get("metadata") or {}
    labels = {**(metadata.get("labels") or {}), "azure.workload.identity/use": "true"}
    pod = {**case.pod, "kind": "Pod", "metadata": {**metadata, "namespace": namespace or "default", "labels": labels}}
    answered = vectors.answer(case, case.body_with(pod))

    result = inject_manifests(
        json.dumps(pod), case.id, vectors.accounts_of(case), vectors.settings_of(case), Output.JSON
    )

    if answered["response"]["allowed"]:
        assert json.loads(result.text) == vectors.apply(pod, answered)
        assert [text.partition(": ")[2] for text in result.warnings] == answered["response"].get("warnings", [])
    elif namespace:
        assert [text.partition(": ")[2] for text in result.refusals] == [answered["response"]["status"]["message"]]


def test_json_and_patch_are_printed_on_demand() -> None:
    """-o json gives one List for many documents; -o patch the operations of each labelled workload."""
    path = FOLDER / "09-many-documents.yaml"

    listed = json.loads(inject(path, "-o", "json").stdout)
    patches = json.loads(inject(path, "-o", "patch").stdout)

    assert ["Service", "Pod", "Pod"] == [item["kind"] for item in listed["items"]]
    assert ["Pod shop/ours"] == [entry["workload"] for entry in patches]
    assert {"add"} == {operation["op"] for operation in patches[0]["patch"]}


def test_a_refused_pod_ends_with_1_and_stays_as_it_is() -> None:
    """The refusal is told on stderr with the workload's name; the manifests are printed all the same."""
    text = (FOLDER / "18-environment-mode.yaml").read_text().replace('"8181"', '"0"')

    run = inject("-", text=text)

    assert run.returncode == 1
    assert run.stdout == text
    assert "Error: Pod shop/restricted: annotation azure.workload.identity/proxy-sidecar-port" in run.stderr


def test_warnings_go_to_stderr() -> None:
    """What kubectl would print as a warning stands on stderr, with the workload's name."""
    text = (
        (FOLDER / "01-pod-plain.yaml")
        .read_text()
        .replace("  labels:", "  annotations:\n    azure.workload.identity/client-id: x\n  labels:")
    )

    run = inject("-", text=text)

    assert run.returncode == 0
    assert (
        "Warning: Pod shop/plain: annotation azure.workload.identity/client-id is read on the service account"
        in run.stderr
    )


def test_aliases_are_written_out_where_containers_share_a_list() -> None:
    """Two containers that share one env list by an anchor each get the variables once."""
    text = """\
apiVersion: v1
kind: Pod
metadata:
  name: shared
  namespace: shop
  labels: {azure.workload.identity/use: "true"}
spec:
  serviceAccountName: app
  containers:
  - name: one
    env: &env
    - name: A
      value: a
  - name: two
    env: *env
"""
    run = inject("-", text=text)

    (spec,) = pod_specs(yaml.safe_load(run.stdout))
    expected = ["AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST", "A"]
    assert [[entry["name"] for entry in container["env"]] for container in spec["containers"]] == [expected, expected]
    assert "aliases are written out" in run.stderr


ODD = """\
apiVersion: v1
kind: Pod
metadata:
  name: odd
  namespace: shop
  annotations: {day: 2024-01-01, at: 2001-12-14t21:59:43.10-05:00}
  labels: {azure.workload.identity/use: "true"}
spec:
  serviceAccountName: app
  automountServiceAccountToken: yes
  containers:
  - {name: one, image: x, env: ENV [{name: A, value: "yes"}, {name: B, value: "2024-01-01"}, {name: C, value: '22:22'}]}
  volumes:
  - {name: v, secret: {secretName: s, defaultMode: 0644}}
"""


def test_values_are_what_kubernetes_makes_of_them() -> None:
    """In JSON and where aliases are written out: octal modes, booleans, times as text, and text that stays text."""
    shared = ODD.replace("ENV", "&env").replace("  volumes:", "  - {name: two, image: x, env: *env}\n  volumes:")

    documents = [
        json.loads(inject("-", "-ojson", text=ODD.replace("ENV", "")).stdout),
        json.loads(inject("-", "-ojson", text=shared).stdout),
        *load_documents(inject("-", text=shared).stdout, "output"),
    ]

    for document in documents:
        spec = document["spec"]
        assert (0o644, True) == (spec["volumes"][0]["secret"]["defaultMode"], spec["automountServiceAccountToken"])
        assert "2001-12-14t21:59:43.10-05:00" == document["metadata"]["annotations"]["at"]
        assert ["yes", "2024-01-01", "22:22"] == [entry["value"] for entry in spec["containers"][0]["env"][4:]]


def test_odd_values_are_written_as_they_were() -> None:
    """A round trip does not touch times, modes and words."""
    lines = inject_text(ODD.replace("ENV", "")).splitlines()

    for text in ("at: 2001-12-14t21:59:43.10-05:00", "automountServiceAccountToken: yes", "defaultMode: 0644}"):
        assert any(text in line for line in lines)


def test_a_file_without_an_end_is_told() -> None:
    """Not more is read than any manifest has."""
    run = inject("/dev/zero")
    assert (1, "") == (run.returncode, run.stdout)
    assert "/dev/zero is larger than" in run.stderr


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + level)}: &{chr(98 + level)} [{','.join(['*' + chr(97 + level)] * 9)}]\n" for level in range(8)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no manifest"),
        ("[1, 2", "is no YAML or JSON"),
        ("just text", "not an object with apiVersion and kind"),
        ("a: 1", "has no kind"),
        ("kind: Deployment", "has no spec.template"),
        ("kind: CronJob\nspec: {jobTemplate: 7}", "has no spec.jobTemplate.spec.template"),
        (
            "kind: Pod\nmetadata: {labels: {azure.workload.identity/use: 'true'}}\nspec: {containers: 7}",
            "cannot be read",
        ),
        ("kind: Pod\n" + BOMB, "nodes with its aliases followed"),
        ("[" * 1000, "is no YAML or JSON"),
        ("kind: !!bool x", "does not fit its tag"),
        (ODD.replace("ENV", "") + "x: .nan", "holds a number that JSON does not have"),
        (ODD.replace("ENV", "") + "spec: &a [*a]", "duplicate key"),
    ],
)
def test_hostile_manifests_are_told_in_a_sentence(text: str, words: str) -> None:
    """Empty, broken, of the wrong shape, or a bomb: an error that names the file, no traceback."""
    with pytest.raises(ManifestError, match=words) as raised:
        inject_manifests(text, "input.yaml", {}, vectors.settings_of(vectors.load("basic-no-name")), Output.YAML)

    assert "input.yaml" in str(raised.value)


def test_accounts_come_from_all_files() -> None:
    """Service accounts are read beside the Pods; one that is there twice is an error that names both places."""
    account = b"{kind: ServiceAccount, metadata: {name: a}}"

    assert [("default", "a")] == list(read_accounts([(account, "one"), (b"kind: Pod", "two")]))
    with pytest.raises(ManifestError, match=r"two, document 1: .* stands in one, document 1 already"):
        read_accounts([(account, "one"), (account, "two")])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-f/nonexistent"], "/nonexistent cannot be read"),
        (["-f-", "--service-accounts=/nonexistent"], "/nonexistent cannot be read"),
    ],
)
def test_missing_files_are_named(arguments: list[str], words: str) -> None:
    """A file that is not there is an error of one line, exit 1."""
    run = subprocess.run(
        [AZWI, "inject", f"--tenant-id={TENANT}", *arguments], input="", capture_output=True, text=True, check=False
    )

    assert run.returncode == 1
    assert words in run.stderr
    assert "Traceback" not in run.stderr
