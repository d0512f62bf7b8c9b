"""The operators' console at `/admin`: pages made on the server, a style sheet and a little script of our own."""
