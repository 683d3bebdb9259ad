"""`python -m videocrafter`: the command line without the installed script."""

from videocrafter.cli.main import main

if __name__ == "__main__":
    main()
