"""Time of one matrix product on a GPU: tiles in waves, and what trees learned of the rest."""
