"""`python -m medr1`."""

from medr1.cli import main

if __name__ == "__main__":
    main()
