"""`python -m t2t`, the same as the `t2t` command."""

from t2t.cli import main

if __name__ == "__main__":
    main()
