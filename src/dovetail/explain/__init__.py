"""Says why one variant is slower or faster than another, from their profiles alone; nothing is run here."""
