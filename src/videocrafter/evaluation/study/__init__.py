"""User studies: make a blind study, serve it to raters, and turn their votes into numbers."""
