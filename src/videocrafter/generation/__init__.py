"""One generation run, from a request to files: the library below the command line and every other front end."""
