"""`python -m videocrafter`: the command, where the script of that name is not on the path."""

from videocrafter.cli.main import main

if __name__ == "__main__":
    main()
