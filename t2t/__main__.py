"""The `t2t` command, and `python -m t2t`: what answers Ctrl-C while Python is still importing the command line."""

import shlex
import sys


def main() -> None:
    try:
        from t2t.cli import main as command
    except KeyboardInterrupt:
        print(f"Stopped. Go on with: {shlex.join(['t2t', *sys.argv[1:]])}", file=sys.stderr)
        raise SystemExit(130) from None
    command()


if __name__ == "__main__":
    main()
