"""Vulkan on this computer: which drivers there are (cheap), and which adapters they drive (in a child process).

EDGEDL_VULKAN_ICD names the driver file to use (a *_icd.json; several with colons); without it the loader's own
VK_DRIVER_FILES and VK_ICD_FILENAMES count, then the system's folders.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedl.core.errors import UnavailableError

LOADER = "libvulkan.so.1"
OURS, THEIRS = "EDGEDL_VULKAN_ICD", ("VK_DRIVER_FILES", "VK_ICD_FILENAMES")
FOLDERS = ("/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/usr/share/vulkan/icd.d")
SWIFTSHADER = (  # software drivers that come with browsers
    "/usr/lib/chromium/vk_swiftshader_icd.json",
    "/usr/lib/chromium-browser/vk_swiftshader_icd.json",
    "/opt/google/chrome/vk_swiftshader_icd.json",
)
KINDS = {0: "other", 1: "integrated", 2: "discrete", 3: "virtual", 4: "cpu"}  # VkPhysicalDeviceType
HARDWARE = ("integrated", "discrete")
SOFTWARE = ("*lvp*", "*swrast*", "*swiftshader*")  # driver files of software adapters


@dataclass(frozen=True)
class Adapter:
    """One that Vulkan lists. kind: of `KINDS`; "cpu" is a software one."""

    name: str
    kind: str


@dataclass(frozen=True)
class Drivers:
    """What to use. files: driver files, where they were chosen (else the system's folders count). loader: a path, where
    the system has no loader but the driver's folder has."""

    files: tuple[str, ...] = ()
    loader: str | None = None


def driver_files() -> list[Path]:
    """The driver files that would be used, found or not where a variable names them."""
    for name in (OURS, *THEIRS):
        if given := os.environ.get(name):
            return [Path(part) for part in given.split(os.pathsep) if part]
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local/share")
    return sorted(path for folder in (*FOLDERS, f"{home}/vulkan/icd.d") for path in Path(folder).glob("*.json"))


def swiftshader() -> Path | None:
    """The driver file of a browser's software adapter, if one is installed."""
    return next((Path(place) for place in SWIFTSHADER if Path(place).exists()), None)


def drivers() -> Drivers:
    """What `open_loader` needs, as the environment says."""
    chosen = any(os.environ.get(name) for name in (OURS, *THEIRS))
    files = driver_files()
    beside = [path.resolve().parent / LOADER for path in files]
    loader = None if _is_loadable(LOADER) else next((str(path) for path in beside if path.exists()), None)
    return Drivers(tuple(map(str, files)) if chosen else (), loader)


def has_loader() -> bool:
    """Whether Vulkan's loader is installed, in the system or beside a driver."""
    return _is_loadable(LOADER) or drivers().loader is not None


def _is_loadable(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def open_loader(chosen: Drivers) -> ctypes.CDLL:
    """Make the chosen drivers the ones that this process finds. Raises UnavailableError without a loader."""
    for name in THEIRS:
        os.environ.pop(name, None)
        if chosen.files:
            os.environ[name] = os.pathsep.join(chosen.files)
    # What loads it later by its bare name gets the one that is open.
    try:
        return ctypes.CDLL(chosen.loader or LOADER, ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise UnavailableError("Vulkan's loader cannot be opened", required=LOADER, received=str(error)) from None


class _InstanceInfo(ctypes.Structure):
    """VkInstanceCreateInfo, of which only the type is filled in."""

    _fields_ = (
        ("type", ctypes.c_int32),
        ("next", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("application", ctypes.c_void_p),
        ("layers", ctypes.c_uint32),
        ("layer_names", ctypes.c_void_p),
        ("extensions", ctypes.c_uint32),
        ("extension_names", ctypes.c_void_p),
    )


def adapters(loader: ctypes.CDLL) -> list[Adapter]:
    """What Vulkan lists, in its order; empty without a driver that works. Loads the drivers: in a child only."""
    instance = ctypes.c_void_p()
    if loader.vkCreateInstance(ctypes.byref(_InstanceInfo(type=1)), None, ctypes.byref(instance)):
        return []
    count = ctypes.c_uint32()
    loader.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), None)
    handles = (ctypes.c_void_p * count.value)()
    loader.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), handles)
    found: list[Adapter] = []
    for handle in handles:
        properties = ctypes.create_string_buffer(4096)  # VkPhysicalDeviceProperties: 824 bytes
        loader.vkGetPhysicalDeviceProperties(ctypes.c_void_p(handle), properties)
        kind, name = struct.unpack_from("=i256s", properties, 16)
        found.append(Adapter(name.split(b"\0")[0].decode(errors="replace"), KINDS.get(kind, "other")))
    loader.vkDestroyInstance(instance, None)
    return found


def ready(chosen: Drivers) -> list[Adapter]:
    """Make this process find the chosen drivers; the adapters that are left to choose from.

    Software adapters are hidden beside hardware (loaders since 1.3.234 can), as Mesa installs one wherever it is.
    Raises UnavailableError where there is none.
    """
    loader = open_loader(chosen)
    found = adapters(loader)
    if not found:
        raise UnavailableError(
            "Vulkan finds no adapter here",
            required="a GPU with its Vulkan driver, or a browser's software adapter",
            received=f"none from {', '.join(chosen.files) or 'the drivers of the system'}",
            advice=f"`export {OURS}={place}` is a software adapter that is here" if (place := swiftshader()) else None,
        )
    if {adapter.kind in HARDWARE for adapter in found} == {True, False}:
        os.environ["VK_LOADER_DRIVERS_DISABLE"] = ",".join(SOFTWARE)
        found = adapters(loader) or found
    return found


def listed(found: Sequence[Adapter]) -> str:
    """ "SwiftShader Device (Subzero) (cpu)" …"""
    return ", ".join(f"{adapter.name} ({adapter.kind})" for adapter in found)


def no_latency(found: Sequence[Adapter]) -> str:
    """Why nothing is timed on these adapters, of which any may have run the model; "" where all are hardware."""
    software = [adapter for adapter in found if adapter.kind not in HARDWARE]
    if not software:
        return "" if found else "the adapter that ran is not known"
    if len(software) < len(found):
        return f"which of {listed(found)} ran is not known"
    return f"{listed(software)} is software, whose time says nothing about a GPU's"
