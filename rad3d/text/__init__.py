"""Report text: its sections, the grammar that writes it, the rules that read it, corpora."""
