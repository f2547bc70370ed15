"""The sections of a report, one file each: a function of what was asked that returns a Section, or None."""
