"""The azwi command: each module parses its part, calls one function, prints. Nothing imports this room."""
