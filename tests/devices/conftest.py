"""What tests of devices share."""

from __future__ import annotations

import pytest

from edgedl.devices.arm64 import emulator, setup


@pytest.fixture(scope="session")
def emulated() -> None:
    """Skips where the emulator's packages are missing; the runtime is downloaded once and kept in the cache."""
    system = [name for name, command in emulator.missing().items() if "apt-get" in command]
    if system:
        pytest.skip(f"{', '.join(system)} not installed (apt-get)")
    setup.set_up()
