"""What plug-ins promise: tasks, techniques, backends; and what most of them share."""
