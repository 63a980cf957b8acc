"""Compile the contracts before the package is gathered, so that what is installed needs no compiler."""

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).parent))

from btt_evm import artifacts


class CompileFirst(build_py):
    """build_py, once every contract is compiled."""

    def run(self) -> None:
        for name in artifacts.CONTRACTS:
            artifacts.load(name)
        super().run()


setup(cmdclass={"build_py": CompileFirst})
