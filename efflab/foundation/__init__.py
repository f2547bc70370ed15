"""Nothing here knows of models: errors, files, registry, settings, child processes, this machine."""
