"""`python -m workers.keeper`."""

from workers.keeper.keeper import main

if __name__ == "__main__":
    main()
