"""Reading other projects' checkpoint files without running them, and writing what they hold as folders."""
