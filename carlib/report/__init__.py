"""The report, its figures and the model card, from the records."""
