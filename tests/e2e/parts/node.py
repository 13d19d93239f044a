"""A real node: the control plane, kubelet, kube-proxy, containerd and a container network in namespaces of their own.

Needs root and Debian's containerd, runc, containernetworking-plugins and iptables. The network namespace has no uplink.
When its first process ends, the kernel ends all others, containers too, and network, mounts and /run/... go with them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from controlplane import BUILD, ControlPlane
from kube import READY

if TYPE_CHECKING:
    from collections.abc import Iterator

NODE = "node1"
ADDRESS = "10.99.0.1"
SERVICES = "10.96.0.0/16"
PODS = "10.244.0.0/24"
METADATA = "169.254.169.254"
CGROUP = "azwi-e2e"
# What containerd, the kubelet and CNI write to whatever their settings say.
PRIVATE = ("/run/containerd", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers", "/var/log/pods")
# The rights that are used are compared with those that the chart grants.
AUDIT = """
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    userGroups: ["system:serviceaccounts:azwi-system"]
  - level: None
"""


CONTAINERD = """
version = 2
root = "{folder}/containerd/root"
state = "{folder}/containerd/state"
oom_score = 0
[grpc]
address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "{folder}/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/pause:1"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{folder}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""


def _network(folder: Path) -> dict[str, Any]:
    """A bridge for the Pods, as CNI wants it."""
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": f"{folder}/cni/data",
    }
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True, "ipam": addresses}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "node", "plugins": [bridge, ports]}


def missing() -> str:
    """What this machine lacks for a node; empty where nothing is missing."""
    if os.geteuid() != 0:
        return "root"
    programs = {
        "containerd": "containerd",
        "runc": "runc",
        "iptables": "iptables",
        "nft": "nftables",
        "ip": "iproute2",
        "nsenter": "util-linux",
        "curl": "curl",
    }
    packages = [package for program, package in programs.items() if not shutil.which(program)]
    if not Path("/usr/lib/cni/bridge").exists():
        packages.append("containernetworking-plugins")
    return f"apt install --no-install-recommends {' '.join(packages)}" if packages else ""


class Node(ControlPlane):
    """A running node with its control plane."""

    host = ADDRESS
    issuer = "https://kubernetes.default.svc"
    names = ("127.0.0.1", ADDRESS, "10.96.0.1", "localhost", "kubernetes.default.svc")

    image: Path  # the product's archive, once it is imported

    def __init__(self, folder: Path, program: str, inside: int) -> None:
        self._inside = inside
        self._kubelet: subprocess.Popen[bytes] | None = None
        super().__init__(folder, program, ["nsenter", "-t", str(inside), "-n", "-m", "--"])
        (folder / "audit.yaml").write_text(AUDIT)
        self.audit = folder / "audit.log"
        kubelet_client = self._ca.issue_cert(
            "kubelet-client", common_name="apiserver", organization_name="system:masters"
        )
        kubelet_client.private_key_pem.write_to_path(str(folder / "kubelet-client.key"))
        kubelet_client.cert_chain_pems[0].write_to_path(str(folder / "kubelet-client.crt"))
        self.api_flags = (
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--enable-aggregator-routing=true",
            "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-client-certificate={folder / 'kubelet-client.crt'}",
            f"--kubelet-client-key={folder / 'kubelet-client.key'}",
            f"--audit-policy-file={folder / 'audit.yaml'}",
            f"--audit-log-path={self.audit}",
            "--service-account-max-token-expiration=24h",
        )

    def keys_host(self) -> str:
        """As Pods reach it."""
        return self.issuer

    def run(self, *command: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """A program of this machine, on the node; what it complained about stands in the error."""
        try:
            return subprocess.run([*self.enter, *command], capture_output=True, text=True, timeout=timeout, check=check)
        except subprocess.CalledProcessError as problem:
            problem.add_note(problem.stderr)
            raise

    @contextlib.contextmanager
    def running(self) -> Iterator[Node]:
        """Start all of it; end all of it."""
        with super().running(), contextlib.ExitStack() as stack:
            scheduler = self._write_kubeconfig("scheduler", "system:kube-scheduler", "system:masters")
            stack.enter_context(
                self._process("kube-scheduler", f"--kubeconfig={scheduler}", "--leader-elect=false", "--secure-port=0")
            )
            self._start_containerd(stack)
            stack.callback(self._leave_kubelet)
            self.start_kubelet()
            proxy = self._write_kubeconfig("proxy", "system:kube-proxy", "system:node-proxier")
            stack.enter_context(
                self._process(
                    "kube-proxy",
                    f"--kubeconfig={proxy}",
                    f"--hostname-override={NODE}",
                    "--proxy-mode=nftables",
                    f"--cluster-cidr={PODS}",
                    "--conntrack-max-per-core=0",
                )
            )
            self.kubectl(
                "create",
                "clusterrolebinding",
                "proxier",
                "--clusterrole=system:node-proxier",
                "--user=system:kube-proxy",
            )
            anonymous = ["--clusterrole=system:service-account-issuer-discovery", "--group=system:unauthenticated"]
            self.kubectl("create", "clusterrolebinding", "discovery", *anonymous)
            self.kubectl("wait", f"node/{NODE}", "--for=create", "--timeout=60s")
            self.kubectl("wait", f"node/{NODE}", "--for=condition=Ready", "--timeout=60s")
            yield self

    def _start_containerd(self, stack: contextlib.ExitStack) -> None:
        folder = self.folder
        socket = folder / "containerd.sock"
        (folder / "cni").mkdir()
        (folder / "cni" / "10-node.conflist").write_text(json.dumps(_network(folder)))
        (folder / "containerd.toml").write_text(CONTAINERD.format(folder=folder, socket=socket))
        command = [
            "nsenter",
            "-t",
            str(self._inside),
            "-n",
            "-m",
            "-p",
            "--",
            "containerd",
            "-c",
            f"{folder}/containerd.toml",
        ]
        log = stack.enter_context((folder / "containerd.log").open("wb"))
        containerd = stack.enter_context(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        stack.callback(containerd.kill)  # of nsenter; what it started ends with the namespaces
        self._ctr = ["ctr", "-a", str(socket), "-n", "k8s.io"]
        deadline = time.monotonic() + READY
        while self.run(*self._ctr, "version", check=False).returncode:
            assert time.monotonic() < deadline, (folder / "containerd.log").read_text()
            time.sleep(0.1)

    def import_image(self, archive: Path) -> None:
        """Give the node an image."""
        self.run(*self._ctr, "images", "import", "--all-platforms", str(archive), timeout=300)

    def start_kubelet(self) -> None:
        """Start the kubelet, also again."""
        folder = self.folder
        kubeconfig = self._write_kubeconfig(NODE, f"system:node:{NODE}", "system:nodes")
        (folder / "kubelet").mkdir(exist_ok=True)
        settings: dict[str, Any] = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": f"unix://{folder}/containerd.sock",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{CGROUP}",
            "cgroupsPerQOS": True,
            "enforceNodeAllocatable": [],
            "failCgroupV1": False,
            "failSwapOn": False,
            "oomScoreAdj": 0,
            "podLogsDir": "/var/log/pods",
            "volumePluginDir": f"{folder}/plugins",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self._ca_file)},
            },
            "authorization": {"mode": "Webhook"},
            "evictionHard": {"memory.available": "100Mi"},
            "imageGCHighThresholdPercent": 100,
            "registerNode": True,
            "resolvConf": "",
        }
        (folder / "kubelet.yaml").write_text(yaml.safe_dump(settings))
        command = [
            *("nsenter", "-t", str(self._inside), "-n", "-m", "-p", "--", self._program, "kubelet"),
            f"--config={folder}/kubelet.yaml",
            f"--kubeconfig={kubeconfig}",
            f"--root-dir={folder}/kubelet",
            f"--cert-dir={folder}/kubelet/pki",
            f"--hostname-override={NODE}",
            f"--node-ip={ADDRESS}",
        ]
        with (folder / "kubelet.log").open("ab") as log:
            self._kubelet = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop_kubelet(self) -> None:
        """Kill the kubelet; containers run on."""
        assert self._kubelet is not None
        os.kill(_child(self._kubelet.pid, self._program), signal.SIGKILL)
        self._kubelet.wait()

    def _leave_kubelet(self) -> None:
        """It ends with the namespaces."""
        if self._kubelet is not None:
            self._kubelet.kill()
            self._kubelet.wait()

    def helm(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run helm as administrator."""
        return self.run(build("helm"), f"--kubeconfig={self.kubeconfig}", *arguments, check=check, timeout=180)


@contextlib.contextmanager
def namespaces(folder: Path) -> Iterator[int]:
    """Namespaces for a node; gives their first process. When it ends, everything in them ends."""
    pause = build("pause")
    flags = ["--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--propagation=private"]
    with subprocess.Popen(["unshare", *flags, pause], stdin=subprocess.DEVNULL) as holder:
        try:
            inside = _child(holder.pid, pause)
            for private in PRIVATE:
                Path(private).mkdir(parents=True, exist_ok=True)
            (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")  # look-ups fail at once
            commands = [
                "mount --make-rshared /",
                *(f"mount -t tmpfs node {private}" for private in PRIVATE),
                f"mount --bind {folder}/resolv.conf /etc/resolv.conf",
                "ip link set lo up",
                "ip link add uplink type bridge",
                "ip link set uplink up",
                f"ip addr add {ADDRESS}/24 dev uplink",
                "ip route add default via 10.99.0.254 dev uplink",  # nobody is there
                f"ip addr add {METADATA}/32 dev lo",
                "sysctl -qw net.ipv4.ip_forward=1",
            ]
            enter = ["nsenter", "-t", str(inside), "-n", "-m", "--"]
            subprocess.run([*enter, "/bin/sh", "-ec", "\n".join(commands)], check=True)
            _make_cgroups()
            yield inside
        finally:
            holder.kill()
            holder.wait()
            _remove_cgroups()


def build(tool: str) -> str:
    """The path of helm or pause, built if need be."""
    run = subprocess.run(["/bin/sh", BUILD.with_name("tools.sh"), tool], check=True, stdout=subprocess.PIPE, text=True)
    return run.stdout.strip()


def _child(parent: int, program: str) -> int:
    """The child of a process, once it runs that program."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            with contextlib.suppress(OSError):
                if Path(f"/proc/{child}/exe").resolve() == Path(program).resolve():
                    return int(child)
        time.sleep(0.02)
    raise TimeoutError(f"{program} does not start in its namespaces")


def _cgroups() -> list[Path]:
    """Our group in each hierarchy of version 1, or the one of version 2."""
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return [root / CGROUP]
    return [one / CGROUP for one in root.iterdir() if (one / "tasks").exists() and not one.is_symlink()]


def _make_cgroups() -> None:
    for group in _cgroups():
        group.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (group / name).exists():
                (group / name).write_text((group.parent / name).read_text())


def _remove_cgroups() -> None:
    """Remove what is empty; processes may need a moment to be gone."""
    for group in _cgroups():
        for _ in range(30):
            with contextlib.suppress(OSError):
                for folder, _, _ in os.walk(group, topdown=False):
                    Path(folder).rmdir()
            if not group.exists():
                break
            time.sleep(0.1)
