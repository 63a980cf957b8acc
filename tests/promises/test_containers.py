"""The steps of the images hold without an engine: what a node holds, what the bridge lacks, what compose says."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from btt_bridge import config

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
#: Modules that hold, or lead to, patient data or money.
HOSPITAL = ("accept", "assemble", "assign", "cli", "commands", "deidentify", "dispatch", "journal", "judge", "ledger",
            "pipeline", "reidentify", "report", "send", "settle", "store", "vault", "web", "worker")  # fmt: skip


@pytest.fixture(scope="module")
def node_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a node is built from."""
    folder = tmp_path_factory.mktemp("node")
    subprocess.run([sys.executable, DOCKER / "node-files.py", folder], check=True, capture_output=True, timeout=60)
    return folder


def test_a_node_holds_nothing_of_the_hospital_s(node_files: Path) -> None:
    """No module that could hold a patient, an account or a key of the hospital's is among a node's files."""
    held = {
        path.relative_to(node_files / "btt_bridge").parts[0].removesuffix(".py") for path in node_files.rglob("*.py")
    }
    assert "infer" in held
    assert held.isdisjoint(HOSPITAL)
    assert "entry_points" in (node_files / "setup.cfg").read_text()
    assert "btt_bridge.cli" not in (node_files / "setup.cfg").read_text()


def test_a_node_runs_from_its_own_files_alone(node_files: Path) -> None:
    """Every module of the node imports where only the node's files are, and nothing of ours comes from elsewhere."""
    program = f"""
import importlib, pathlib, sys
home = pathlib.Path({str(node_files)!r})
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in type(finder).__module__ + repr(finder)]
sys.path[:] = [str(home)] + [path for path in sys.path if path not in ("", {str(ROOT)!r})]
for path in sorted(home.rglob("*.py")):
    name = ".".join(path.relative_to(home).with_suffix("").parts).removesuffix(".__init__")
    if not name.endswith("__main__"):
        importlib.import_module(name)
ours = {{name: module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "btt_bridge"}}
assert len(ours) > 5
assert all(pathlib.Path(file).is_relative_to(home) for file in ours.values()), ours
for name in {HOSPITAL!r}:
    try:
        importlib.import_module("btt_bridge." + name)
    except ModuleNotFoundError:
        continue
    raise SystemExit("a node can import " + name)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=node_files, check=False)
    assert done.returncode == 0, done.stderr


def closure(extras: set[str]) -> set[str]:
    """Return the distributions that installing us with these extras brings, as their own metadata says."""
    waiting, found = [("btt-bridge", frozenset(extras))], set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in found:
            continue
        found.add((name, wanted))
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for requirement in map(Requirement, lines):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in (wanted or {""})):
                waiting.append((requirement.name.lower().replace("_", "-"), frozenset(requirement.extras)))
    return {name for name, _ in found}


def test_the_bridge_is_installed_without_torch() -> None:
    """Nothing that install-bridge.sh asks pip for leads to torch; what install-node.sh asks for does."""
    script = (DOCKER / "install-bridge.sh").read_text()
    (extras,) = re.findall(r"\[([a-z,]+)\]", script)
    assert "torch" not in closure(set(extras.split(",")))
    assert "pynetdicom" in closure(set(extras.split(",")))
    assert "torch" in closure({"node"})


def test_the_bridge_runs_without_torch() -> None:
    """Every module that is not the node's own imports while torch cannot be."""
    program = """
import importlib, pkgutil, sys
import btt_bridge
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "triton"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NoTorch())
for found in pkgutil.walk_packages(btt_bridge.__path__, "btt_bridge."):
    if not found.name.startswith("btt_bridge.infer") and not found.name.endswith("__main__"):
        importlib.import_module(found.name)
print(len(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_scripts_are_shell_and_executable() -> None:
    """Each step can be run by itself, and its shell finds nothing to complain of."""
    scripts = [*DOCKER.glob("*.sh"), ROOT / ".ci" / "run"]
    assert len(scripts) > 4
    for script in scripts:
        assert os.access(script, os.X_OK), script
        shell = script.read_text().splitlines()[0].removeprefix("#!")
        subprocess.run([shell, "-n", script], check=True)


def test_recipes_copy_what_is_there_and_run_the_scripts_that_make_runs() -> None:
    """Every path that a Dockerfile copies exists and is let through, and its steps are the Makefile's scripts."""
    makefile = (ROOT / "Makefile").read_text()
    for recipe in DOCKER.glob("Dockerfile.*[!e]"):
        if recipe.suffix == ".dockerignore":
            continue
        allowed = recipe.with_name(recipe.name + ".dockerignore").read_text().splitlines()
        for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", recipe.read_text(), re.MULTILINE):
            for source in sources.split():
                assert (ROOT / source).exists(), source
                assert f"!{source.split('/')[0]}" in allowed, source
        (installer,) = re.findall(r"RUN /build/docker/(install-\w+\.sh)", recipe.read_text())
        assert f"docker/{installer}" in makefile


def test_bridge_and_pool_share_no_network_but_the_bridge() -> None:
    """Only the bridge stands on both networks: the pool cannot reach the hospital's PACS, database or broker."""
    networks = {name: set(service["networks"]) for name, service in COMPOSE["services"].items()}
    assert {name for name, on in networks.items() if len(on) > 1} == {"bridge"}
    assert {name for name, on in networks.items() if on == {"pool"}} == {
        *("exchange", "node", "pool-postgresql", "pool-rabbitmq"),
    }
    assert {name for name, on in networks.items() if on == {"hospital"}} == {"orthanc", "postgresql", "rabbitmq"}


@pytest.mark.parametrize("service", ["bridge", "exchange", "node"])
def test_settings_of_each_container_hold(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings file that is mounted and the environment that compose gives are valid together."""
    mounted = [Path(volume.split(":")[0]) for volume in COMPOSE["services"][service]["volumes"] if "settings" in volume]
    (file,) = [DOCKER / path for path in mounted]
    for name, value in COMPOSE["services"][service]["environment"].items():
        filled = re.sub(r"\$\{\w+:\?\}", "secret", value)
        monkeypatch.setenv(name, re.sub(r"\$\{\w+:-(.*?)\}", r"\1", filled))
    settings = config.load(file)

    if service == "bridge":
        assert settings.journal_url == "postgresql+psycopg://bridge:secret@postgresql/bridge"
        assert not settings.local_node
        assert not settings.local_exchange
        assert settings.destinations[0].host in COMPOSE["services"]
    if service == "node":
        assert (
            settings.node.exchange_url
            == f"http://exchange:{config.load(DOCKER / 'settings' / 'exchange.yaml').exchange.port}"
        )


def test_every_password_is_asked_for() -> None:
    """No password has a default, and the example names each variable that compose reads."""
    text = (DOCKER / "compose.yaml").read_text()
    example = (DOCKER / "example.env").read_text()
    read = set(re.findall(r"\$\{(\w+)", text))
    assert all(re.search(rf"^{name}=", example, re.MULTILINE) for name in read)
    assert all(f"${{{name}:?}}" in text for name in read if "PASSWORD" in name)
    assert ":-" not in "".join(re.findall(r"\$\{\w*PASSWORD[^}]*\}", text))
