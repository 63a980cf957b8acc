"""Chromium without a window: what a person would see of a page, as a picture and as text."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.peers.server import folder, program

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--hide-scrollbars",
    "--metrics-recording-only",
    "--no-default-browser-check",
    "--no-first-run",
    "--proxy-server=127.0.0.1:9",
    "--proxy-bypass-list=<-loopback>;127.0.0.1",
)


def screenshot(url: str, path: Path, *, width: int = 1280, height: int = 1600, dark: bool = False) -> Path:
    """Take a PNG of a page at this size; return its path."""
    options = [f"--screenshot={path}", f"--window-size={width},{height}"]
    if dark:
        options.append("--blink-settings=preferredColorScheme=0")
    _run(url, *options)
    assert path.stat().st_size > 0, "the browser took no picture"
    return path


def document(url: str) -> str:
    """Return a page's HTML as it stands after everything on it has loaded and run."""
    return _run(url, "--dump-dom", "--virtual-time-budget=2000")


def _run(url: str, *options: str) -> str:
    with folder("chromium") as home:
        command = [program("chromium"), *_FLAGS, f"--user-data-dir={home}", *options, url]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
