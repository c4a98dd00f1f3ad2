"""CT volumes: reading, checking, putting on a model's grid, drawing slices. No network here."""
