"""The command line of the page; imports nothing heavy, so that `--help` and a mistyped flag answer at once."""

import argparse
import ipaddress
from pathlib import Path

from tasks.arguments import Parser, positive
from tasks.errors import UsageError


def parser() -> argparse.ArgumentParser:
    """Makes the parser; it raises `UsageError` instead of leaving the process."""
    summary = "A page on this machine to try trained runs: drop a picture, a sound or a table, and see the answer."
    made = Parser(
        prog="python -m tasks.demo", description=summary, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    made.add_argument("--runs", type=Path, default=Path("runs"), help="where runs lie, as runs/vit/<time>")
    made.add_argument("--host", default="127.0.0.1", help="address to listen at")
    made.add_argument(
        "--allow-remote",
        action="store_true",
        help="lets --host be an address that other machines reach; the page asks nobody who they are",
    )
    made.add_argument("--port", type=_port, default=7860, help="port to listen at; 0 = one that is free")
    made.add_argument("--max-mb", type=positive, default=20, help="largest file that is taken, MB")
    return made


def check_host(host: str, *, allow_remote: bool) -> None:
    """Refuses an address that other machines reach, unless that was asked for.

    Raises:
        UsageError: If it is one.
    """
    if not is_local(host) and not allow_remote:
        raise UsageError(
            f"--host={host}: other machines may reach it, and the page asks nobody who they are; "
            "add --allow-remote if that is meant"
        )


def is_local(host: str) -> bool:
    """Whether an address is this machine's own, which no other reaches; a name may be anybody's."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 0 to 65535")
    return int(text)
