"""`python -m phf`, as `torchrun -m phf train` needs it."""

from phf.cli import main

if __name__ == "__main__":
    main()
