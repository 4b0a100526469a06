"""Photos and their classes: any data set as one table, decoded once, checked, drawn from."""
