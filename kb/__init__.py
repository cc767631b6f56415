"""A knowledge base of paper notes that run: YAML cards, live torch demos, measured claims."""
