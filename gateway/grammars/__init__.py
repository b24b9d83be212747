"""Forms of answers: what a client asks for as a schema, a regex, a choice or a grammar, as one kind of grammar."""
