"""Live progress of a run in the terminal."""
