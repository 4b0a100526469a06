"""One epoch, the loop around it, and what several trainings answer."""
