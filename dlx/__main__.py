"""``python -m dlx`` is the ``dlx`` command."""

from dlx.cli import main

if __name__ == "__main__":
    main()
