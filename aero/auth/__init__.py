"""Who someone is: logins, tokens, identities."""
