"""Language models: found, loaded, checked, counted, decoded."""
