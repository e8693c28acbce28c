"""A real Kubernetes API server on loopback: etcd, kube-apiserver and, for who needs it, kube-controller-manager.

Used by the fixtures of `tests/operator` and by the bench. It has no nodes: `support.kubelet` plays them.
"""

import json
import os
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from support.api_client import ApiClient
from support.documents import ROOT
from support.processes import DEADLINE_S, free_port, wait_until

JSON = dict[str, Any]
START_S = 90.0
"""How long etcd or the API server may take to be ready: 3 s when nobody else uses the machine."""
KUBECTL_S = 180.0
"""How long one command of kubectl may take: longer than any that is told to wait."""
LEASH = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
"""Before a command: the process dies with the thread that started it, even if that is killed."""
CONTROLLERS = (
    "garbage-collector-controller",
    "namespace-controller",
    "disruption-controller",
    "serviceaccount-controller",
    "clusterrole-aggregation-controller",
)


class NoTools(Exception):
    """Kubernetes' programs are not on this machine; the message says how to get them."""


def find_tools() -> Path:
    """Return the folder of kube-apiserver, etcd, kube-controller-manager and kubectl; builds nothing."""
    done = subprocess.run(
        ["sh", str(ROOT / "scripts/kubernetes-tools"), "--find"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NoTools(done.stderr.strip())
    return Path(done.stdout.strip())


class Program:
    """One of Kubernetes' programs, with its log in a file. It does not outlive this process."""

    def __init__(self, command: list[str], log: Path) -> None:
        self._log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen([*LEASH, *command], stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def wait_ready(self, client: ApiClient, path: str) -> None:
        def ready() -> bool:
            if self._process.poll() is not None:
                raise AssertionError(f"{self._log.stem} ended with {self._process.returncode}: {self._last_lines()}")
            return client.answers(path)

        wait_until(ready, f"{self._log.stem} is ready; {self._log}", START_S)

    def kill(self) -> None:
        """End it as the kernel would: what it keeps is a test's, and ending in order takes seconds."""
        self._process.kill()
        self._process.wait(DEADLINE_S)

    def _last_lines(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-8:])


class ApiServer:
    """One API server with everything that a test does to it."""

    def __init__(self, folder: Path, tools: Path) -> None:
        self.folder, self.tools = folder, tools
        self.port, self._etcd_port, self._peer_port = free_port(), free_port(), free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.token = secrets.token_hex(16)
        self.certificate, self._key = folder / "tls.crt", folder / "tls.key"
        self._etcd: Program | None = None
        self._server: Program | None = None
        self._clients: list[ApiClient] = []
        _make_certificate(self.certificate, self._key)
        (folder / "tokens.csv").write_text(f'{self.token},admin,admin,"system:masters"\n')
        self.admin = self.client()

    # Its life

    def start(self) -> None:
        """Start what is not running, and wait until it is ready."""
        if self._etcd is None:
            self._etcd = Program(self._etcd_command(), self.folder / "etcd.log")
            etcd = ApiClient(f"http://127.0.0.1:{self._etcd_port}", "", self.certificate)
            self._etcd.wait_ready(etcd, "/health")
            etcd.close()
        if self._server is None:
            self._server = Program(self._server_command(), self.folder / "kube-apiserver.log")
            self._server.wait_ready(self.admin, "/readyz")

    def kill(self) -> None:
        """Kill the API server; etcd, and with it every object, stays. `start` brings it back on the same port."""
        if self._server is not None:
            self._server.kill()
            self._server = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def stop(self) -> None:
        """End everything."""
        self.kill()
        if self._etcd is not None:
            self._etcd.kill()
            self._etcd = None
        for client in self._clients:
            client.close()

    # Its users

    def client(self, token: str | None = None) -> ApiClient:
        """Return a client, the administrator's by default; it is closed with the server."""
        client = ApiClient(self.url, token or self.token, self.certificate)
        self._clients.append(client)
        return client

    def kubeconfig(self, token: str | None = None, namespace: str = "default") -> Path:
        """Return the path of a kubeconfig with this token, the administrator's by default."""
        cluster = {"server": self.url, "certificate-authority": str(self.certificate)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "tests",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": "tests", "user": {"token": token or self.token}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests", "namespace": namespace}}],
        }
        handle, name = tempfile.mkstemp(suffix=".kubeconfig", dir=self.folder)
        with os.fdopen(handle, "w") as file:
            file.write(json.dumps(config))
        return Path(name)

    def kubectl(self, *args: str, input: str | None = None, token: str | None = None) -> str:  # noqa: A002
        """Run the real kubectl and return what it prints; AssertionError with its complaint."""
        config = self.kubeconfig(token)
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "KUBECONFIG": str(config)}
        done = subprocess.run(
            [str(self.tools / "kubectl"), *args],
            input=input, env=environ, capture_output=True, text=True, timeout=KUBECTL_S, check=False,
        )  # fmt: skip
        config.unlink()
        assert done.returncode == 0, done.stderr
        return done.stdout

    # Short ways

    def get(self, path: str, **query: str) -> JSON:
        return self.admin.get(path, **query)

    def post(self, path: str, body: JSON, **query: str) -> JSON:
        return self.admin.post(path, body, **query)

    def patch(self, path: str, body: Any, kind: str = "merge", **query: str) -> JSON:
        return self.admin.patch(path, body, kind, **query)

    def delete(self, path: str, body: JSON | None = None, **query: str) -> JSON:
        return self.admin.delete(path, body, **query)

    def namespace(self, name: str | None = None) -> str:
        """Create a namespace, by default with a name that nobody has, and the service account that pods get."""
        name = name or f"test-{secrets.token_hex(4)}"
        self.post("/api/v1/namespaces", {"metadata": {"name": name}})
        self.admin.apply(
            f"/api/v1/namespaces/{name}/serviceaccounts/default",
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}},
        )
        return name

    def service_account_token(self, namespace: str, name: str, seconds: int = 3600) -> str:
        """Return a token as a pod of this service account would have it."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token"
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": seconds},
        }
        return str(self.post(path, body)["status"]["token"])

    def install_crd(self, path: Path) -> None:
        """Install the CRDs of a file and wait until they are served."""
        for crd in yaml.safe_load_all(path.read_text()):
            where = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
            self.admin.apply(where, crd)
            self.wait_served(crd)

    def wait_served(self, crd: JSON) -> None:
        """Established comes a moment before the paths answer, and the API server describes them last."""
        where = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
        wait_until(lambda: _is_established(self.get(where)), f"{where} is established")
        wait_until(lambda: all(map(self.admin.answers, _paths(crd))), f"{where} is served")
        group = crd["spec"]["group"]  # which kopf looks for once
        wait_until(lambda: group in [one["name"] for one in self.get("/apis")["groups"]], f"{group} is listed")

    # Its programs

    def _etcd_command(self) -> list[str]:
        client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._peer_port}"
        return [
            str(self.tools / "etcd"),
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]

    def _server_command(self) -> list[str]:
        return [
            str(self.tools / "kube-apiserver"),
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.96.0.0/16",
            f"--tls-cert-file={self.certificate}",
            f"--tls-private-key-file={self._key}",
            "--authorization-mode=RBAC",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.certificate}",
            f"--service-account-signing-key-file={self._key}",
        ]


class ControllerManager:
    """kube-controller-manager with the controllers that clean up, and join roles: `with ControllerManager(server): ...`."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self._program: Program | None = None

    def __enter__(self) -> Self:
        port = free_port()
        folder, crt, key = self._server.folder, self._server.certificate, self._server.folder / "tls.key"
        command = [
            str(self._server.tools / "kube-controller-manager"),
            f"--kubeconfig={self._server.kubeconfig()}",
            f"--controllers={','.join(CONTROLLERS)}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--tls-cert-file={crt}",
            f"--tls-private-key-file={key}",
        ]
        self._program = Program(command, folder / "kube-controller-manager.log")
        client = ApiClient(f"https://127.0.0.1:{port}", "", crt)
        self._program.wait_ready(client, "/healthz")
        client.close()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        if self._program is not None:
            self._program.kill()


def _make_certificate(certificate: Path, key: Path) -> None:
    """Make a certificate that is its own authority; its key also signs service-account tokens."""
    subprocess.run(
        [
            "openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
            "-days", "2", "-subj", "/CN=rhapsode-tests", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
            "-addext", "keyUsage=critical,digitalSignature,keyCertSign",
            "-keyout", str(key), "-out", str(certificate),
        ],
        capture_output=True, timeout=DEADLINE_S, check=True,
    )  # fmt: skip


def _is_established(crd: JSON) -> bool:
    conditions = crd.get("status", {}).get("conditions") or []
    return any(one["type"] == "Established" and one["status"] == "True" for one in conditions)


def _paths(crd: JSON) -> list[str]:
    spec = crd["spec"]
    served = [version["name"] for version in spec["versions"] if version["served"]]
    paths = [f"/apis/{spec['group']}/{version}" for version in served]
    plural = spec["names"]["plural"]
    return [*paths, *(f"{path}/{plural}" for path in paths), *(f"/openapi/v3{path}" for path in paths)]
