"""`python -m comanda`."""

from comanda.cli import main

if __name__ == "__main__":
    main()
