"""Changes of a model that make it smaller or faster: one pass per file; the file name is the registry name."""
