"""Describes the machine: what this process may use of it, what disturbs measurements on it, and what an installation can do."""
