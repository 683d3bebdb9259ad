"""The studio: a page in the browser, a queue that survives restarts, and an HTTP API. Holds no machine learning."""
