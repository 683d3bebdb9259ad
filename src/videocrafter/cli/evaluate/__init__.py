"""`videocrafter evaluate`: the exam of the miniature, and metrics of any videos."""
