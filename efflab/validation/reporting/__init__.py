"""How a validation is told: page, JUnit XML, changes since an earlier one."""
