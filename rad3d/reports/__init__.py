"""Reading reports: sections, the labeller, the check against the diagnosis, text exports."""
