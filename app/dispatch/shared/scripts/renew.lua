-- Go on with a claim that has become too old to be used.
read_held()
read_breakers()
renew()
return tell()
