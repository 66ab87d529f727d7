"""The objectives in other people's trainers, one module a library."""
