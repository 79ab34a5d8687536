"""Commands on the project itself: compile, doctor."""
