"""`videocrafter train`, and the commands that plan, prepare and compare training runs."""
