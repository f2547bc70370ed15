"""Search over baselines and recipe settings together: a space and a goal as data, trials in a journal, a recipe at the end."""
