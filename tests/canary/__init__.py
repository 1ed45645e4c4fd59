"""The canary: a planted token is looked for in all that comes out of the gateway, in every form."""
