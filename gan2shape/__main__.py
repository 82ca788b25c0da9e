"""`python -m gan2shape`."""

from gan2shape.cli import main

if __name__ == "__main__":
    main()
