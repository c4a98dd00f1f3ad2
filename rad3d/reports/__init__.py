"""What a report says: sections, the labeller, the check against the diagnosis, text exports."""
