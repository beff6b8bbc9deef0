"""Grade what a class hands in: each answer runs by itself in a process that can reach nothing it should not."""
