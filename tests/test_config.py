"""Settings: defaults, one file, the environment on top, and errors with file and line."""

from pathlib import Path

import pytest

from btt_bridge import config
from btt_bridge.errors import ConfigurationError


def test_defaults_hold_without_a_file() -> None:
    """A bridge without settings listens on loopback and lets nobody else in."""
    settings = config.load()
    assert settings.accept.host == "127.0.0.1"
    assert settings.accept.peers == ()
    assert settings.journal_url.startswith("sqlite:///")


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container is told apart from its image by its environment, and the rest of the section stays."""
    file = tmp_path / "bridge.yaml"
    file.write_text("accept:\n  port: 104\n  ae_title: HOUSE\n")
    monkeypatch.setenv("BTT_ACCEPT__PORT", "11113")
    settings = config.load(file)
    assert (settings.accept.port, settings.accept.ae_title) == (11113, "HOUSE")


@pytest.mark.parametrize(
    ("text", "line", "name"),
    [
        ("accept:\n  prot: 104\n", 2, "accept.prot"),
        ("accept:\n  ae_title: X\n  port: 70000\n", 3, "accept.port"),
        ("accept:\n  peers:\n    - ae_title: CT1\n      address: not-an-address\n", 4, "accept.peers.0.address"),
        ("accept: [\n", 2, "not YAML"),
    ],
)
def test_a_wrong_setting_is_named_with_its_line(tmp_path: Path, text: str, line: int, name: str) -> None:
    """An unknown name, a value out of bounds and a broken file all say where."""
    file = tmp_path / "bridge.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as problem:
        config.load(file)
    assert f"{file}:{line}: " in str(problem.value)
    assert name in str(problem.value)
