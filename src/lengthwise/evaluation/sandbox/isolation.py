"""What the kernel offers to keep a program in: another user, namespaces, mounts, Landlock.

By ctypes, in the processes between the guard and the program. Each step says whether it could be
taken; none is needed for the next. Outside of Linux there is none of them.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys
from typing import Any

NOBODY = 65534
# Users that no system gives away, one a process.
_OWN_USERS = 0x70000000
# `unshare`: mounts, System V memory, users, processes, network.
_NEW_NS, _NEW_IPC, _NEW_USER, _NEW_PID, _NEW_NET = (
    0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
_NAMESPACES = _NEW_NS | _NEW_IPC | _NEW_PID | _NEW_NET
# `mount` and `mount_setattr`.
_NO_SETUID, _NO_DEVICES, _RECURSIVE, _PRIVATE = 2, 4, 16384, 1 << 18
_MOUNT_SETATTR, _BELOW, _HERE, _READ_ONLY = 442, 0x8000, -100, 1
# `prctl`.
_DEATH_SIGNAL, _DUMPABLE, _KEEP_CAPABILITIES, _SUBREAPER, _NO_NEW_RIGHTS, _AMBIENT = (
    1, 4, 8, 36, 38, 47,
)  # fmt: skip
_RAISE, _READ_ALL, _SET_FILE_RIGHTS = 2, 2, 31
_CAPABILITIES_3 = 0x20080522
# Landlock: its calls, and rights to write by the version that brought them.
_LANDLOCK_NEW, _LANDLOCK_ADD, _LANDLOCK_KEEP = 444, 445, 446
_WRITE, _DELETE_AND_MAKE, _REFER, _TRUNCATE = (
    1 << 1,
    sum(1 << n for n in range(4, 13)),
    1 << 13,
    1 << 14,
)
_TCP, _SCOPES = 3, 3

_LINUX = sys.platform == "linux"
_LIBC = ctypes.CDLL(None, use_errno=True)


def guard_process() -> None:
    """Orphans fall to this process, which ends when the one that started it does."""
    _prctl(_DEATH_SIGNAL, signal.SIGKILL)
    _prctl(_SUBREAPER, 1)


def end_with_parent() -> None:
    """This process is killed when the one that started it ends."""
    _prctl(_DEATH_SIGNAL, signal.SIGKILL)


def other_user(needs: list[str]) -> int | None:
    """The user to become, for root: one that has nothing else, or nobody where users are few.

    Args:
        needs: paths that the program must be able to read.

    Returns:
        None to stay as it is: for other users, and where root's Python could not be read.
    """
    if os.getuid() != 0 or not (all(map(_open_to_all, needs)) or _holds(_READ_ALL)):
        return None
    return _OWN_USERS + os.getpid() if _all_users() else NOBODY


def become(user: int, needs: list[str]) -> None:
    """Leaves root for another user.

    Args:
        user: of `other_user`.
        needs: what it must be able to read. Where others cannot, root's right to read all is kept.
    """
    keeps = not all(map(_open_to_all, needs)) and _prctl(_KEEP_CAPABILITIES, 1)
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    if keeps:
        bit = 1 << _READ_ALL
        head = struct.pack("Ii", _CAPABILITIES_3, 0)
        _call("capset", head, struct.pack("6I", bit, bit, bit, 0, 0, 0))
        _call("prctl", _AMBIENT, _RAISE, _READ_ALL, 0, 0)


def leave_namespaces(as_root: bool) -> bool:
    """New namespaces of mounts, processes and network for the processes that are started next.

    Args:
        as_root: by root's own right; else in a namespace of users, in which exec leaves none.

    Returns:
        Whether the kernel lets them be made.
    """
    if as_root:
        return _call("unshare", _NAMESPACES)
    user, group = os.getuid(), os.getgid()
    # Only with that right can root be another user inside.
    if user == 0 and not _holds(_SET_FILE_RIGHTS):
        return False
    if not _call("unshare", _NAMESPACES | _NEW_USER):
        return False
    _put("/proc/self/setgroups", "deny")
    _put("/proc/self/uid_map", f"{NOBODY} {user} 1")
    _put("/proc/self/gid_map", f"{NOBODY} {group} 1")
    return True


def close_files(folder: str, size: int, user: int) -> bool:
    """Everything read-only, and a folder that is a file system of its own.

    Args:
        folder: the one that can be written.
        size: bytes of its files together.
        user: whose it is.

    Returns:
        Whether both could be done.

    Raises:
        OSError: where nothing can be written now.
    """
    path = ctypes.c_char_p
    if not _call("mount", None, path(b"/"), None, _RECURSIVE | _PRIVATE, None):
        return False
    flags = _NO_SETUID | _NO_DEVICES
    # Processes outside stay unseen; some containers do not allow it.
    _call("mount", path(b"proc"), path(b"/proc"), path(b"proc"), flags, None)
    wanted = struct.pack("4Q", _READ_ONLY, 0, 0, 0)
    closed = _call(
        "syscall", _MOUNT_SETATTR, _HERE, path(b"/"), _BELOW, wanted, ctypes.c_size_t(len(wanted))
    )
    options = f"size={size},mode=700,uid={user},gid={user}".encode()
    kind = path(b"tmpfs")
    own = _call("mount", kind, path(os.fsencode(folder)), kind, flags, path(options))
    if closed and not own:
        raise OSError("its folder cannot be mounted")
    return closed and own


def no_new_rights() -> None:
    """No program that is started from here has more rights, such as sudo."""
    _prctl(_NO_NEW_RIGHTS, 1)


def write_only_in(folder: str) -> bool:
    """Landlock: writes below a folder alone; where it can, no TCP, and no signals to others.

    Needs `no_new_rights`. Returns whether the kernel has it.
    """
    version = int(_LIBC.syscall(_LANDLOCK_NEW, None, ctypes.c_size_t(0), 1)) if _LINUX else -1
    if version < 1:
        return False
    write = _WRITE | _DELETE_AND_MAKE | (_REFER if version > 1 else 0)
    write |= _TRUNCATE if version > 2 else 0
    rules = struct.pack("3Q", write, _TCP, _SCOPES)
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = int(_LIBC.syscall(_LANDLOCK_NEW, rules, ctypes.c_size_t(size), 0))
    if ruleset < 0:
        return False
    for place, rights in ((folder, write), ("/dev/null", write & (_WRITE | _TRUNCATE))):
        fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        _call("syscall", _LANDLOCK_ADD, ruleset, 1, struct.pack("=Qi", rights, fd), 0)
        os.close(fd)
    kept = _call("syscall", _LANDLOCK_KEEP, ruleset, 0)
    os.close(ruleset)
    return kept


def others_counted(user: int | None, inside: bool) -> int | None:
    """Processes that the kernel counts with those of the program; None is all of its user's.

    Args:
        user: of `other_user`.
        inside: whether it is in namespaces.
    """
    if user is not None:
        return 0 if user >= _OWN_USERS else None
    release = [int(part) for part in os.uname().release.split(".")[:2] if part.isdigit()]
    # Since then a namespace of users has a count of its own, in which process 1 is.
    return 1 if inside and release >= [5, 14] else None


def limit(kind: int, soft: int, hard: int | None = None) -> None:
    """A limit of resources, no higher than the one that holds already."""
    allowed = resource.getrlimit(kind)[1]
    most = soft if hard is None else hard
    if allowed != resource.RLIM_INFINITY:
        most, soft = min(most, allowed), min(soft, allowed)
    resource.setrlimit(kind, (soft, most))


def _open_to_all(path: str) -> bool:
    """Whether any user can read a path."""
    real = os.path.realpath(path)
    above = os.path.dirname(real)
    while os.stat(above).st_mode & 0o001:
        if above == os.path.dirname(above):
            return bool(os.stat(real).st_mode & 0o004)
        above = os.path.dirname(above)
    return False


def _all_users() -> bool:
    """Whether every number is a user here; in some containers few are."""
    if not _LINUX:
        return False
    with open("/proc/self/uid_map") as file:
        return any(int(line.split()[2]) > 2 * _OWN_USERS for line in file)


def _holds(right: int) -> bool:
    """Whether this process has a capability; root in a container has few."""
    if not _LINUX:
        return False
    with open("/proc/self/status") as file:
        held = next((line.split()[1] for line in file if line.startswith("CapPrm:")), "0")
    return bool(int(held, 16) >> right & 1)


def _prctl(what: int, value: int) -> bool:
    return _call("prctl", what, value, 0, 0, 0)


def _call(name: str, *given: Any) -> bool:
    """A function of the C library; whether it is there and succeeded."""
    return _LINUX and getattr(_LIBC, name)(*given) == 0


def _put(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


__all__ = [
    "NOBODY", "become", "close_files", "end_with_parent", "guard_process", "leave_namespaces",
    "limit", "no_new_rights", "other_user", "others_counted", "write_only_in",
]  # fmt: skip
