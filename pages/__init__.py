"""Pages for a person to label on: a web server for this machine, and its HTML, CSS and JavaScript (no build step)."""
