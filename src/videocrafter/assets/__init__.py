"""Files that ship inside the package: models, sprites, vocabularies and their licences."""
