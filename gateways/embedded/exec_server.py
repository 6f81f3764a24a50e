"""A program that becomes a server: the steps between fork and exec.

Called as `python -I -S exec_server.py '{"parent": PID, "death_signal": N, "user": [UID, GID] | null, "needs": [...]}'
PROGRAM ARG...`; imports the standard library only.

It is not a `preexec_fn`, which runs Python in a fork of a process with threads: a thread that was not forked along may
hold any lock there for ever (malloc's, the import system's, the dynamic loader's).

Postgres refuses to run as root, so a root caller names a `user` to become. That user may be unable to reach the
program or its data (a clone below /root, a folder of `mktemp -d`). The process then keeps one right of root,
CAP_DAC_OVERRIDE, as an ambient capability that outlives setuid and exec, instead of opening those folders to the user.
"""

import ctypes
import json
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_SECUREBITS = 28
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
SECBIT_NO_SETUID_FIXUP = 1 << 2
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522


class CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class CapabilityData(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def main() -> None:
    """Become the user, tie this process to its parent's life, and exec the program."""
    plan = json.loads(sys.argv[1])
    command = sys.argv[2:]
    # A parent that was started by `nohup` or with `&` in a script passes on ignored or blocked signals.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    if plan["user"] is not None:
        uid, gid = plan["user"]
        become(uid, gid, plan["needs"])
    if sys.platform == "linux":
        # After the change of user, which clears it.
        control(PR_SET_PDEATHSIG, plan["death_signal"])
        if os.getppid() != plan["parent"]:
            sys.exit("exec_server: the process that started this server has ended")
    os.execv(command[0], command)


def become(uid: int, gid: int, needs: list[str]) -> None:
    """Become `uid`, and keep the right to enter closed folders only if it cannot reach one of `needs` otherwise."""
    os.setgroups([])
    keep = sys.platform == "linux" and not within_reach(uid, gid, needs)
    if keep:
        # Capabilities outlive setuid, and access(2), by which initdb and postgres look for each other, honours them.
        control(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
    os.setgid(gid)
    os.setuid(uid)
    if keep:
        raise_dac_override()


def within_reach(uid: int, gid: int, paths: list[str]) -> bool:
    """Whether the user can open every path without special rights, as the kernel itself sees it."""
    os.setegid(gid)
    os.seteuid(uid)
    try:
        return all(os.access(path, os.R_OK | os.X_OK, effective_ids=True) for path in paths)
    finally:
        os.seteuid(0)
        os.setegid(0)


def raise_dac_override() -> None:
    """Drop every capability but CAP_DAC_OVERRIDE, and make that one survive exec (capabilities(7))."""
    bit = 1 << CAP_DAC_OVERRIDE
    header = CapabilityHeader(CAPABILITY_VERSION_3, 0)
    data = (CapabilityData * 2)(CapabilityData(bit, bit, bit), CapabilityData(0, 0, 0))
    check(libc().capset(ctypes.byref(header), data), "capset to CAP_DAC_OVERRIDE")
    control(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE)


def control(option: int, first: int, second: int = 0) -> None:
    """prctl(2); exits with a message when the kernel refuses."""
    arguments = [ctypes.c_ulong(value) for value in (first, second, 0, 0)]
    check(libc().prctl(option, *arguments), f"prctl({option}, {first}, {second})")


def libc() -> ctypes.CDLL:
    """The C library this process runs on."""
    return ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    """Exit with a message, which is written to the server's log, unless `result` is 0."""
    if result != 0:
        sys.exit(
            f"exec_server: {what} failed: {os.strerror(ctypes.get_errno())}; run as an ordinary user, or put the data "
            "folder and the virtual environment below folders that every user may enter"
        )


if __name__ == "__main__":
    main()
