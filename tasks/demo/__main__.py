"""`python -m tasks.demo`: a page on this machine to try trained runs."""

import sys
from collections.abc import Sequence

from tasks.demo.arguments import check_host, parser
from tasks.launch import finish


def main(args: Sequence[str] | None = None) -> int:
    """Serves until it is stopped, and returns the exit code."""
    return finish(lambda: _serve(sys.argv[1:] if args is None else args))


def _serve(args: Sequence[str]) -> str:
    options = parser().parse_args(args)
    check_host(options.host, allow_remote=options.allow_remote)
    from tasks.demo.server import serve

    return serve(options)


if __name__ == "__main__":
    sys.exit(main())
