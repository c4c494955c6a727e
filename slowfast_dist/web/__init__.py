"""A page that a command shows in the browser: who may ask, what the server holds, its policy."""
