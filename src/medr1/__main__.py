"""`python -m medr1` and `medr1`. Signals are answered before anything else is imported."""

from medr1.processes import stoppable


def main() -> None:
    """Entry point."""
    with stoppable():
        from medr1.cli import main as command

        command()


if __name__ == "__main__":
    main()
